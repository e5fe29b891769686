//! Who calls, through what, and what is to come of it.

/// Tokens that the quota grants in a second: two million a minute.
pub(super) const RATE: f64 = 2_000_000.0 / 60.0;

/// One row: callers in classes before one limit.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) part: Part,
    pub(super) name: String,
    pub(super) order: Order,
    pub(super) limit: Limit,
    pub(super) classes: Vec<Class>,
    /// Seconds of virtual time, and how many of them warm up.
    pub(super) seconds: u64,
    pub(super) warm: u64,
}

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Two sizes of calls near the quota, and above.
    Sizes,
    /// A few who are in a hurry beside many who are not.
    Hurry,
    /// Three who all want everything.
    Three,
}

/// Who is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Arrival,
    /// By the weights of the classes.
    Shares(Vec<u32>),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// A rate limit.
    Bucket,
    /// Five scopes, each with a fifth of the quota.
    Pool,
    /// Five scopes, each with a quarter of the quota, under the quota of the whole and a limit of
    /// those in flight.
    Joint,
}

/// Callers of one class.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) name: &'static str,
    /// The tokens of its calls, each as often as another.
    pub(super) sizes: &'static [u64],
    pub(super) comes: Comes,
}

/// When its calls come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Comes {
    /// By chance, all together this share of the quota.
    Poisson(f64),
    /// So many callers, each with its next call when the last is done.
    Always(usize),
    /// The same, but for a pause of a third of the time in the middle.
    Pausing(usize),
}

const SMALL: &[u64] = &[500];
const LARGE: &[u64] = &[30_000];

pub(super) fn all() -> Vec<Setting> {
    [sizes(), hurry(), three()].concat()
}

/// The loads of small and large calls, as shares of what there is.
const MIXES: [(&str, f64, f64); 3] = [
    ("50:50", 0.5, 0.5),
    ("90:10", 0.9, 0.1),
    ("10:90", 0.1, 0.9),
];

fn sizes() -> Vec<Setting> {
    let mut settings = Vec::new();
    for load in [0.95, 1.10] {
        for (mix, small, large) in MIXES {
            let class = |name, sizes, part: f64| Class {
                name,
                sizes,
                comes: Comes::Poisson(load * part),
            };
            let by_tokens = vec![1, (small * 10.0) as u32, (large * 10.0) as u32];
            let mut orders = vec![Order::Arrival, Order::Shares(vec![1, 1, 1])];
            if small == large {
                orders.push(Order::Shares(vec![1, 40, 60]));
            } else {
                orders.push(Order::Shares(by_tokens));
            }
            for order in orders {
                settings.push(Setting {
                    part: Part::Sizes,
                    name: format!("{mix} at {:.0} %", load * 100.0),
                    order,
                    limit: Limit::Bucket,
                    classes: vec![class("small", SMALL, small), class("large", LARGE, large)],
                    seconds: if load < 1.0 { 6_000 } else { 2_400 },
                    warm: if load < 1.0 { 600 } else { 0 },
                });
            }
        }
    }
    for order in [Order::Arrival, Order::Shares(vec![1, 1, 1])] {
        let class = |name| Class {
            name,
            sizes: &BOTH,
            comes: Comes::Poisson(0.475),
        };
        settings.push(Setting {
            part: Part::Sizes,
            name: "both in each class at 95 %".into(),
            order,
            limit: Limit::Bucket,
            classes: vec![class("one, its large"), class("other, its large")],
            seconds: 6_000,
            warm: 600,
        });
    }
    settings
}

/// Half of the tokens in small calls, half in a large one.
const BOTH: [u64; 61] = {
    let mut sizes = [500; 61];
    sizes[60] = 30_000;
    sizes
};

fn hurry() -> Vec<Setting> {
    let mut settings = Vec::new();
    for limit in [Limit::Bucket, Limit::Pool, Limit::Joint] {
        for (size, sizes) in [("0.6 s", &[20_000][..]), ("6 s", &[200_000])] {
            for order in [Order::Arrival, Order::Shares(vec![1, 20, 80])] {
                settings.push(Setting {
                    part: Part::Hurry,
                    name: format!("{}: batch calls of {size}", limit.name()),
                    order,
                    limit,
                    classes: vec![
                        Class {
                            name: "interactive",
                            sizes: SMALL,
                            comes: Comes::Poisson(0.15),
                        },
                        Class {
                            name: "batch",
                            sizes,
                            comes: Comes::Always(100),
                        },
                    ],
                    seconds: 1_800,
                    warm: 120,
                });
            }
        }
    }
    settings
}

fn three() -> Vec<Setting> {
    let class = |name, sizes, comes| Class { name, sizes, comes };
    let mut settings = Vec::new();
    for limit in [Limit::Bucket, Limit::Pool, Limit::Joint] {
        for (name, comes) in [
            ("all the time", Comes::Always(100)),
            ("one pauses", Comes::Pausing(100)),
        ] {
            settings.push(Setting {
                part: Part::Three,
                name: format!("{}: {name}", limit.name()),
                order: Order::Shares(vec![1, 50, 30, 20]),
                limit,
                classes: vec![
                    class("half", &[500, 20_000], comes),
                    class("three tenths", &[3_000], Comes::Always(100)),
                    class("a fifth", &[100, 9_000, 12_000], Comes::Always(100)),
                ],
                seconds: 1_800,
                warm: 60,
            });
        }
    }
    settings
}

impl Limit {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bucket => "rate limit",
            Self::Pool => "pool of five",
            Self::Joint => "joint",
        }
    }
}

impl Setting {
    /// What a class is promised of the quota by its weight alone.
    pub(super) fn share(&self, class: usize) -> f64 {
        let Order::Shares(weights) = &self.order else {
            return 0.0;
        };
        let total: u32 = weights[1..].iter().sum();
        f64::from(weights[class + 1]) / f64::from(total)
    }

    /// What a class is promised of the quota, if it has work for it: its weight's part, and what the
    /// others leave.
    pub(super) fn promised(&self, class: usize) -> f64 {
        if self.order == Order::Arrival {
            return 0.0;
        }
        let others = self.classes.iter().enumerate();
        let others = others.filter(|(other, _)| *other != class);
        let wanted: f64 = others.map(|(_, other)| other.load()).sum();
        self.share(class).max(1.0 - wanted)
    }
}

impl Class {
    /// What it wants of the quota.
    pub(super) const fn load(&self) -> f64 {
        match self.comes {
            Comes::Poisson(load) => load,
            Comes::Always(_) | Comes::Pausing(_) => f64::INFINITY,
        }
    }

    /// Whether the waits of calls of a size are looked at.
    pub(super) fn watches(&self, tokens: u64) -> bool {
        self.sizes.len() < BOTH.len() || tokens == BOTH[BOTH.len() - 1]
    }

    pub(super) fn mean_size(&self) -> f64 {
        self.sizes.iter().sum::<u64>() as f64 / self.sizes.len() as f64
    }
}
