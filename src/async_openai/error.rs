use async_openai::error::OpenAIError;

use crate::error::{BoxError, KeyFailed};

/// An error of the service inside, as the client has it without layers where it has one.
pub(super) fn to_openai(error: BoxError) -> OpenAIError {
    // With which key it failed concerns the layers alone.
    let error = match error.downcast::<KeyFailed>() {
        Ok(failed) => failed.source,
        Err(error) => error,
    };
    let error = match error.downcast::<OpenAIError>() {
        Ok(error) => return *error,
        Err(error) => error,
    };
    match error.downcast::<reqwest::Error>() {
        Ok(error) => OpenAIError::Reqwest(*error),
        Err(error) => OpenAIError::Boxed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::Rejected,
        outcome::{Outcome, Verdict},
        policy::{CostTooLarge, Unit},
    };

    fn failed(source: impl Into<BoxError>) -> BoxError {
        Box::new(KeyFailed {
            alias: "a1".into(),
            scope: "org-a".into(),
            outcome: Outcome::new(Verdict::ServerFault),
            source: source.into(),
        })
    }

    fn of_reqwest() -> reqwest::Error {
        let built = reqwest::Client::new().get("/no/host").build();
        built.expect_err("it has no host")
    }

    #[test]
    fn a_clients_own_errors_are_its_own_again_whichever_key_they_were_of() {
        for error in [BoxError::from(of_reqwest()), failed(of_reqwest())] {
            let error = to_openai(error);
            assert!(matches!(&error, OpenAIError::Reqwest(error) if error.is_builder()));
        }
        for error in [
            BoxError::from(OpenAIError::InvalidArgument("n".into())),
            failed(OpenAIError::InvalidArgument("n".into())),
        ] {
            let error = to_openai(error);
            assert!(matches!(&error, OpenAIError::InvalidArgument(text) if text == "n"));
        }
    }

    #[test]
    fn a_refusal_is_boxed_as_it_is_and_found_behind_other_errors() {
        let rejected = Rejected::CostTooLarge(CostTooLarge::new(Unit::TOKENS, 5, 2));
        for error in [BoxError::from(rejected.clone()), failed(rejected.clone())] {
            let error = to_openai(error);
            assert!(matches!(&error, OpenAIError::Boxed(boxed) if boxed.is::<Rejected>()));
            assert_eq!(error.to_string(), rejected.to_string());
            let wrapped = std::io::Error::other(failed(error));
            let inner = wrapped.get_ref().expect("it is there");
            assert_eq!(Rejected::find(inner), Some(&rejected));
        }
    }
}
