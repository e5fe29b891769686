/// How a request comes to be sent more than once.
///
/// The default is [`CloneReplay`]. A strategy of one's own may change the request's type, for
/// example to one whose body is kept in a buffer as it is sent:
///
/// ```
/// use std::sync::Arc;
/// use tower_relay::retry::Replay;
///
/// /// A request that is too large to copy, and one that shares it.
/// struct Upload(Vec<u8>);
/// struct Shared(Arc<Vec<u8>>);
///
/// struct Share;
/// impl Replay<Upload> for Share {
///     type Request = Shared;
///
///     fn prepare(&self, upload: Upload) -> Shared {
///         Shared(Arc::new(upload.0))
///     }
///
///     fn copy(&self, upload: &Shared) -> Option<Shared> {
///         Some(Shared(upload.0.clone()))
///     }
/// }
///
/// let first = Share.prepare(Upload(vec![1, 2, 3]));
/// let second = Share.copy(&first).expect("it can be shared");
/// assert_eq!(*second.0, [1, 2, 3]);
/// ```
pub trait Replay<Req> {
    /// What is sent in the request's place.
    type Request;

    /// Makes the request fit to be sent more than once. Called once a call.
    fn prepare(&self, request: Req) -> Self::Request;

    /// A copy to keep while `request` is sent, or `None` if there can be none: then it is sent
    /// once, and its failure is returned as it was. Not called before a last attempt.
    fn copy(&self, request: &Self::Request) -> Option<Self::Request>;

    /// Whether a kept copy can be sent now that the attempt before it has failed. What it
    /// answers must stay true through the wait. Default: yes.
    fn can_replay(&self, kept: &Self::Request) -> bool {
        let _ = kept;
        true
    }
}

/// Replays a request by its `Clone`: right for bodies that are shared buffers or empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneReplay;

impl<Req: Clone> Replay<Req> for CloneReplay {
    type Request = Req;

    #[inline]
    fn prepare(&self, request: Req) -> Req {
        request
    }

    #[inline]
    fn copy(&self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }
}
