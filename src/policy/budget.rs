use super::{InvalidConfig, RetryCause};

/// What keeps retries from holding a failing server down: a store of tokens that retries take
/// from and that **successes** fill.
///
/// A retry withdraws a fixed number of tokens, fewer after a throttle; with too few left there
/// is no retry. A success at the first attempt repays a little, a success after retries what
/// its last retry withdrew. While the server answers, sporadic failures are always retried;
/// once it stops, the store runs dry after some thirty retries and stays dry until it answers
/// again, however many callers keep asking. A budget funded by requests instead of successes
/// goes on paying for retries that the server cannot serve.
///
/// Sources: Finagle `RetryBudget` (a deposit per call, retries withdraw), gRPC proposal A6
/// (retry throttling: success adds, failure takes), the token bucket and the amounts of the AWS
/// SDKs' standard mode. Deviations: from Finagle, deposits come from successes and do not expire
/// after ten seconds; from gRPC, only a retry takes tokens, not every failure, and the whole
/// store can be used, not its upper half; from AWS, one budget is shared by everything behind
/// one layer, and a retry that was never sent can be given back.
///
/// ```
/// use tower_relay::policy::{RetryBudget, RetryCause};
///
/// let mut budget = RetryBudget::default();
/// let withdrawal = budget.withdraw(RetryCause::Fault).expect("it is full");
/// assert_eq!(budget.level(), 486);
/// budget.repay(None); // a success at the first attempt
/// assert_eq!(budget.level(), 487);
/// budget.repay(Some(withdrawal)); // a success after a retry
/// assert_eq!(budget.level(), 500);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    level: u32,
    capacity: u32,
    fault: u32,
    throttle: u32,
    success: u32,
}

/// The tokens that one retry took from a [`RetryBudget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Withdrawal {
    tokens: u32,
}

impl RetryBudget {
    /// Tokens of a full budget: enough for 35 retries in a row, so that a passing fault is
    /// hidden from everybody, and few enough to be spent in the first second of an outage.
    pub const DEFAULT_CAPACITY: u32 = 500;
    /// Tokens of a retry after a failure: with one token back per success, fourteen
    /// successes pay for one retry in vain, which a server near its limit can bear.
    pub const DEFAULT_FAULT_COST: u32 = 14;
    /// Tokens of a retry after a throttle: less, because a refusal costs the server next to
    /// nothing and says that it is alive.
    pub const DEFAULT_THROTTLE_COST: u32 = 5;
    /// Tokens that a success at the first attempt repays: the unit all else is counted in.
    pub const DEFAULT_SUCCESS: u32 = 1;

    /// A full budget of `capacity` tokens from which a retry withdraws `fault` after a failure
    /// and `throttle` after a throttle.
    ///
    /// # Errors
    ///
    /// If a withdrawal is zero, or so large that not even a full budget could pay it.
    pub fn new(capacity: u32, fault: u32, throttle: u32) -> Result<Self, InvalidConfig> {
        for (field, tokens) in [("fault", fault), ("throttle", throttle)] {
            if tokens == 0 {
                return Err(InvalidConfig::new(
                    field,
                    "a retry must cost at least 1 token; write RetryBudget::unlimited() for none",
                ));
            }
            if tokens > capacity {
                return Err(InvalidConfig::new(
                    field,
                    format!(
                        "{tokens} tokens can never be paid from a capacity of {capacity}; raise the capacity"
                    ),
                ));
            }
        }
        Ok(Self {
            level: capacity,
            capacity,
            fault,
            throttle,
            success: Self::DEFAULT_SUCCESS,
        })
    }

    /// A budget that never runs dry: attempts and time alone bound retries.
    ///
    /// Many callers of one server can keep it down this way; see the type's documentation.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self {
            level: u32::MAX,
            capacity: u32::MAX,
            fault: 0,
            throttle: 0,
            success: 0,
        }
    }

    /// Pays for one retry, if there are tokens enough.
    #[must_use = "without a withdrawal there must be no retry"]
    pub fn withdraw(&mut self, cause: RetryCause) -> Option<Withdrawal> {
        let tokens = match cause {
            RetryCause::Fault => self.fault,
            RetryCause::Throttle => self.throttle,
        };
        self.level = self.level.checked_sub(tokens)?;
        Some(Withdrawal { tokens })
    }

    /// Takes in a success: after retries with what the last of them withdrew, otherwise with
    /// `None`.
    pub fn repay(&mut self, last: Option<Withdrawal>) {
        let tokens = last.map_or(self.success, |withdrawal| withdrawal.tokens);
        self.level = self.level.saturating_add(tokens).min(self.capacity);
    }

    /// Takes back what was withdrawn for a retry that was never sent.
    pub fn refund(&mut self, withdrawal: Withdrawal) {
        self.repay(Some(withdrawal));
    }

    /// The tokens left.
    #[must_use]
    pub const fn level(&self) -> u32 {
        self.level
    }

    /// The tokens of a full budget.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Whether a success has nothing to repay.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.level == self.capacity
    }
}

impl Default for RetryBudget {
    /// 500 tokens; 14 a retry, 5 after a throttle.
    fn default() -> Self {
        Self {
            level: Self::DEFAULT_CAPACITY,
            capacity: Self::DEFAULT_CAPACITY,
            fault: Self::DEFAULT_FAULT_COST,
            throttle: Self::DEFAULT_THROTTLE_COST,
            success: Self::DEFAULT_SUCCESS,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_budget_pays_for_35_retries_in_a_row_or_for_100_after_throttles() {
        let count = |cause| {
            let mut budget = RetryBudget::default();
            std::iter::from_fn(|| budget.withdraw(cause)).count()
        };
        assert_eq!(count(RetryCause::Fault), 35);
        assert_eq!(count(RetryCause::Throttle), 100);
    }

    #[test]
    fn a_withdrawal_that_cannot_be_paid_takes_nothing() {
        let mut budget = RetryBudget::new(20, 14, 5).expect("it is valid");
        assert!(budget.withdraw(RetryCause::Fault).is_some());
        assert_eq!(budget.withdraw(RetryCause::Fault), None);
        assert_eq!(budget.level(), 6);
        assert!(budget.withdraw(RetryCause::Throttle).is_some());
        assert_eq!(budget.level(), 1);
    }

    #[test]
    fn successes_repay_one_or_what_their_last_retry_withdrew() {
        let mut budget = RetryBudget::default();
        let throttle = budget.withdraw(RetryCause::Throttle);
        let _ = budget.withdraw(RetryCause::Fault);
        assert_eq!(budget.level(), 481);
        assert!(!budget.is_full());
        budget.repay(throttle);
        assert_eq!(budget.level(), 486);
        for _ in 0..14 {
            budget.repay(None);
        }
        assert!(budget.is_full());
        budget.repay(None);
        assert_eq!(budget.level(), budget.capacity());
    }

    #[test]
    fn a_retry_that_was_never_sent_costs_nothing() {
        let mut budget = RetryBudget::default();
        let withdrawal = budget.withdraw(RetryCause::Fault).expect("it is full");
        budget.refund(withdrawal);
        assert_eq!(budget, RetryBudget::default());
    }

    #[test]
    fn an_unlimited_budget_stays_full() {
        let mut budget = RetryBudget::unlimited();
        assert!(budget.withdraw(RetryCause::Fault).is_some());
        assert!(budget.withdraw(RetryCause::Throttle).is_some());
        assert!(budget.is_full());
        budget.repay(None);
        assert_eq!(budget, RetryBudget::unlimited());
    }

    #[test]
    fn amounts_that_cannot_work_are_refused() {
        let field = |capacity, fault, throttle| {
            RetryBudget::new(capacity, fault, throttle)
                .expect_err("it is invalid")
                .field()
                .to_owned()
        };
        assert_eq!(field(10, 0, 5), "fault");
        assert_eq!(field(10, 5, 0), "throttle");
        assert_eq!(field(10, 11, 5), "fault");
        assert_eq!(field(10, 5, 11), "throttle");
        assert_eq!(field(0, 0, 0), "fault");
        assert!(RetryBudget::new(10, 10, 10).is_ok());
        assert_eq!(RetryBudget::new(500, 14, 5), Ok(RetryBudget::default()));
    }

    proptest! {
        #[test]
        fn fourteen_successes_pay_for_one_retry_in_vain(
            steps in prop::collection::vec(any::<bool>(), 0..2_000),
        ) {
            let mut budget = RetryBudget::default();
            let (mut successes, mut retries) = (0, 0);
            for retry in steps {
                if !retry {
                    budget.repay(None);
                    successes += 1;
                } else if budget.withdraw(RetryCause::Fault).is_some() {
                    retries += 1;
                }
                prop_assert!(budget.level() <= budget.capacity());
                prop_assert!(retries * 14 <= 500 + successes);
            }
        }
    }
}
