use std::sync::Arc;

use super::InvalidConfig;

/// More classes than anybody can weigh against one another; the number bounds what an admission
/// looks through.
const MOST_CLASSES: usize = 32;
/// Weights are proportions; more digits would be a mistake.
const LARGEST_WEIGHT: u32 = 1_000_000;

/// Classes of callers, each with the weight by which it shares what there is while others want it.
///
/// What a class does not use goes to the others, by their weights; an idle class saves nothing up.
/// With one other class that always has work, a class of weight 20 beside one of 80 gets a fifth.
/// Callers of no class, or of one that has no name here, are a class together, so names that
/// callers invent cost nothing.
///
/// ```
/// use tower_relay::policy::Shares;
///
/// let shares = Shares::builder().class("interactive", 20).class("batch", 80).build()?;
/// let weights: Vec<_> = shares.classes().collect();
/// assert_eq!(weights, [(None, 20), (Some("interactive"), 20), (Some("batch"), 80)]);
///
/// let error = Shares::builder().class("batch", 0).build().unwrap_err();
/// assert_eq!(error.field(), "class");
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// The first is that of the others.
    classes: Arc<[(Option<Arc<str>>, u32)]>,
}

impl Shares {
    /// Shares under construction, with no class yet.
    pub const fn builder() -> SharesBuilder {
        SharesBuilder {
            classes: Vec::new(),
            others: None,
        }
    }

    /// Every class with its weight: first the callers of no class, then the named ones in the order
    /// of their configuration.
    pub fn classes(&self) -> impl Iterator<Item = (Option<&str>, u32)> {
        let classes = self.classes.iter();
        classes.map(|(name, weight)| (name.as_deref(), *weight))
    }

    /// How many classes there are, that of the others included.
    #[cfg(any(
        feature = "rate-limit",
        feature = "key-rotation",
        feature = "adaptive-concurrency"
    ))]
    pub(crate) fn len(&self) -> usize {
        self.classes.len()
    }

    /// The number of a class: its place among [`classes`](Self::classes), zero for a name that is not
    /// among them.
    ///
    /// ```
    /// use tower_relay::policy::Shares;
    ///
    /// let shares = Shares::builder().class("batch", 1).build()?;
    /// assert_eq!([Some("batch"), Some("other"), None].map(|name| shares.number(name)), [1, 0, 0]);
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    #[must_use]
    pub fn number(&self, name: Option<&str>) -> usize {
        let Some(name) = name else {
            return 0;
        };
        let mut named = self.classes.iter();
        named
            .position(|(known, _)| known.as_deref() == Some(name))
            .unwrap_or(0)
    }

    #[cfg(any(
        feature = "rate-limit",
        feature = "key-rotation",
        feature = "adaptive-concurrency"
    ))]
    pub(crate) fn name(&self, number: usize) -> Option<&Arc<str>> {
        self.classes[number].0.as_ref()
    }

    /// What a class has of `whole` by its weight, rounded up.
    #[cfg(any(
        feature = "rate-limit",
        feature = "key-rotation",
        feature = "adaptive-concurrency"
    ))]
    pub(crate) fn share(&self, number: usize, whole: usize) -> usize {
        let total: u64 = self.classes().map(|(_, weight)| u64::from(weight)).sum();
        let weight = u128::from(self.classes[number].1);
        let share = (whole as u128 * weight).div_ceil(u128::from(total));
        usize::try_from(share).unwrap_or(whole)
    }
}

/// Builds [`Shares`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SharesBuilder {
    classes: Vec<(Arc<str>, u32)>,
    others: Option<u32>,
}

impl SharesBuilder {
    /// A class of callers and its weight, from 1 to 1,000,000, in proportion to which it is served
    /// while others wait too. Names are compared as they are written.
    pub fn class(mut self, name: impl Into<Arc<str>>, weight: u32) -> Self {
        self.classes.push((name.into(), weight));
        self
    }

    /// The weight of all callers of no class or of an unknown one together. Default: the smallest
    /// of the named classes, so that a caller who forgets to say its class is served, but gains
    /// nothing by it.
    pub const fn others(mut self, weight: u32) -> Self {
        self.others = Some(weight);
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if there is no named class or more than 32, if a name is empty or comes
    /// twice, or if a weight is zero or above 1,000,000.
    pub fn build(self) -> Result<Shares, InvalidConfig> {
        let Some(smallest) = self.classes.iter().map(|(_, weight)| *weight).min() else {
            return Err(InvalidConfig::new(
                "class",
                "there is none; name at least one, or leave the shares out",
            ));
        };
        if self.classes.len() > MOST_CLASSES {
            let count = self.classes.len();
            return Err(InvalidConfig::new(
                "class",
                format!("{count} are more than {MOST_CLASSES}; put callers together"),
            ));
        }
        for (index, (name, weight)) in self.classes.iter().enumerate() {
            if name.is_empty() {
                return Err(InvalidConfig::new(
                    "class",
                    "a name is empty; write others(..) for callers of no class",
                ));
            }
            if self.classes[..index].iter().any(|(other, _)| other == name) {
                return Err(InvalidConfig::new(
                    "class",
                    format!("{name} comes twice; name it once"),
                ));
            }
            check("class", *weight)?;
        }
        let others = self.others.unwrap_or(smallest);
        check("others", others)?;
        let named = self.classes.into_iter();
        let named = named.map(|(name, weight)| (Some(name), weight));
        Ok(Shares {
            classes: [(None, others)].into_iter().chain(named).collect(),
        })
    }
}

fn check(field: &'static str, weight: u32) -> Result<(), InvalidConfig> {
    if (1..=LARGEST_WEIGHT).contains(&weight) {
        return Ok(());
    }
    let problem = format!("a weight of {weight} is not between 1 and {LARGEST_WEIGHT}");
    Err(InvalidConfig::new(field, problem))
}

#[cfg(all(test, feature = "rate-limit"))]
mod tests {
    use super::*;

    fn two() -> SharesBuilder {
        Shares::builder().class("a", 3).class("b", 1)
    }

    #[test]
    fn names_have_numbers_and_unknown_ones_share_one() {
        let shares = two().build().expect("valid");
        assert_eq!(shares.len(), 3);
        let numbers = [None, Some("a"), Some("b"), Some("A"), Some("")];
        assert_eq!(numbers.map(|name| shares.number(name)), [0, 1, 2, 0, 0]);
        assert_eq!(shares.name(0), None);
        assert_eq!(shares.name(2).map(|name| &**name), Some("b"));
    }

    #[test]
    fn a_share_is_in_proportion_and_rounded_up() {
        let shares = two().others(1).build().expect("valid");
        assert_eq!([0, 1, 2].map(|class| shares.share(class, 10)), [2, 6, 2]);
        assert_eq!(shares.share(2, 0), 0);
        assert_eq!(shares.share(2, 1), 1);
        assert_eq!(shares.share(1, usize::MAX), usize::MAX / 5 * 3);
    }

    #[test]
    fn the_others_weigh_as_much_as_the_smallest_unless_said() {
        let weights = |built: SharesBuilder| {
            let shares = built.build().expect("valid");
            shares
                .classes()
                .map(|(_, weight)| weight)
                .collect::<Vec<_>>()
        };
        assert_eq!(weights(two()), [1, 3, 1]);
        assert_eq!(weights(two().others(7)), [7, 3, 1]);
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_field() {
        let many = (0..33).fold(Shares::builder(), |built, n| built.class(n.to_string(), 1));
        for (built, field, problem) in [
            (Shares::builder(), "class", "there is none"),
            (many, "class", "33 are more than 32"),
            (two().class("", 1), "class", "a name is empty"),
            (two().class("a", 1), "class", "a comes twice"),
            (two().class("c", 0), "class", "a weight of 0"),
            (two().class("c", 1_000_001), "class", "a weight of 1000001"),
            (two().others(0), "others", "a weight of 0"),
        ] {
            let error = built.build().expect_err("it cannot work");
            assert_eq!(error.field(), field);
            assert!(error.problem().starts_with(problem), "{error}");
        }
        let most = (0..32).fold(Shares::builder(), |built, n| built.class(n.to_string(), 1));
        assert_eq!(most.build().expect("as many as may be").len(), 33);
    }
}
