//! `[timeouts]` and `[upstream.timeouts]`: how long a provider may take.

use std::time::Duration;

use super::{problem::Problem, reader::Node};

/// How long an upstream may take for each part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// To connect: name, TCP and TLS together.
    pub(crate) connect: Duration,
    /// From sending a call to the head of its answer, each attempt anew.
    pub(crate) first_byte: Option<Duration>,
    /// Between two pieces of an answer's body.
    pub(crate) idle: Option<Duration>,
    /// From the arrival of a request to the end of its answer, all waits and attempts together.
    pub(crate) total: Option<Duration>,
}

/// What stands in the place of a time that is not limited.
const OFF: &str = "off";

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            // As the providers' own clients have it.
            connect: Duration::from_secs(5),
            // As these as well: a model may think for minutes before its first word.
            first_byte: Some(Duration::from_secs(600)),
            // Providers ping in pauses of half a minute or say nothing while a tool runs.
            idle: Some(Duration::from_secs(300)),
            total: Some(Duration::from_secs(3_600)),
        }
    }
}

impl Timeouts {
    /// What `node` says, and of what it does not say what is in `defaults`.
    pub(super) fn read(node: &Node<'_>, defaults: Self) -> Result<Self, Problem> {
        let table = node.table(&["connect", "first_byte", "idle", "total"])?;
        let limit = |name, default| {
            let node = table.get(name);
            node.map_or(Ok(default), |node| match node.text()? {
                OFF => Ok(None),
                _ => node.positive_time().map(Some),
            })
        };
        let connect = table.get("connect");
        Ok(Self {
            connect: connect.map_or(Ok(defaults.connect), |node| node.positive_time())?,
            first_byte: limit("first_byte", defaults.first_byte)?,
            idle: limit("idle", defaults.idle)?,
            total: limit("total", defaults.total)?,
        })
    }
}
