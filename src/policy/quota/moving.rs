//! What is checked of the limits whose rate moves.

use super::Limit;
use crate::policy::{InvalidConfig, Ramp, RateSearch, Unit, rate_search::Search};

pub(super) fn checked_searches(
    searches: &[(Unit, RateSearch)],
    limits: &[Limit],
) -> Result<Vec<Search>, InvalidConfig> {
    let units = || searches.iter().map(|(unit, _)| *unit);
    check_units(
        "seek",
        "rate of",
        units(),
        limits.iter().map(|limit| limit.unit),
    )?;
    let checked = searches.iter().map(|(unit, search)| search.checked(*unit));
    checked.collect()
}

pub(super) fn check_ramps(
    ramps: &[(Unit, Ramp)],
    searches: &[(Unit, RateSearch)],
    limits: &[Limit],
) -> Result<(), InvalidConfig> {
    let sought = searches.iter().map(|(unit, _)| *unit);
    let others = limits.iter().map(|limit| limit.unit).chain(sought);
    check_units(
        "ramp",
        "growth of",
        ramps.iter().map(|(unit, _)| *unit),
        others,
    )?;
    ramps
        .iter()
        .try_for_each(|(unit, ramp)| ramp.checked(*unit))
}

/// Each unit once, and none mixed up with another.
fn check_units(
    field: &'static str,
    what: &'static str,
    units: impl Iterator<Item = Unit> + Clone,
    others: impl Iterator<Item = Unit> + Clone,
) -> Result<(), InvalidConfig> {
    for (place, unit) in units.clone().enumerate() {
        if units.clone().take(place).any(|other| other == unit) {
            let verb = if field == "seek" { "sought" } else { "bounded" };
            return Err(InvalidConfig::new(
                field,
                format!(
                    "the {what} {} is {verb} twice; keep one of the two",
                    unit.name()
                ),
            ));
        }
        let mut all = units.clone().chain(others.clone());
        if let Some(twin) = all.find(|other| other.is_mixed_up_with(unit)) {
            return Err(InvalidConfig::new(
                field,
                format!(
                    "{} and {} are custom units of the same slot; give each its own",
                    twin.name(),
                    unit.name()
                ),
            ));
        }
    }
    Ok(())
}
