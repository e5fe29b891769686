//! `seek` and `ramp` in a quota: rates that nobody told, and growth that is punished.

use std::time::Duration;

use tower_relay::policy::{Quota, Ramp, RateSearch, Unit};

use super::{
    problem::Problem,
    reader::{Node, Table, word},
};

const SECOND: f64 = 1.0;
const MINUTE: f64 = 60.0;

/// The rates that can be sought, and the seconds that each is over. Growth is bounded per minute.
const RATES: [(&str, Unit, f64); 5] = [
    ("requests_per_second", Unit::REQUESTS, SECOND),
    ("requests_per_minute", Unit::REQUESTS, MINUTE),
    ("input_tokens_per_minute", Unit::INPUT_TOKENS, MINUTE),
    ("output_tokens_per_minute", Unit::OUTPUT_TOKENS, MINUTE),
    ("tokens_per_minute", Unit::TOKENS, MINUTE),
];

/// The rates that are sought.
pub(super) fn searches(node: &Node<'_>) -> Result<Vec<(Unit, RateSearch)>, Problem> {
    node.one_or_more().iter().map(search).collect()
}

/// What may not grow faster than so.
pub(super) fn ramps(node: &Node<'_>) -> Result<Vec<(Unit, Ramp)>, Problem> {
    node.one_or_more().iter().map(ramp).collect()
}

fn search(node: &Node<'_>) -> Result<(Unit, RateSearch), Problem> {
    let rates = RATES.map(|(name, ..)| name);
    let table = node.table(&[&rates[..], &["start", "preset"]].concat())?;
    let example = "requests_per_minute = [60, 6_000]";
    let (bounds, unit, per) = only_rate(&table, &RATES, "seeks", example)?;
    let [lowest, highest] = &*bounds.list("the lowest and the highest rate")? else {
        return Err(bounds.wrong("is not two numbers; write the lowest and the highest rate"));
    };
    let (lowest, highest) = (lowest.fraction()?, highest.fraction()?);
    let mut search = match per == SECOND {
        true => RateSearch::per_second(lowest..=highest),
        false => RateSearch::per_minute(lowest..=highest),
    };
    let is_valid = |search: &RateSearch| {
        let quota = Quota::builder().seek(unit, search.clone()).build();
        quota.is_ok()
    };
    if !is_valid(&search) {
        return Err(bounds.wrong(
            "cannot be: the lowest rate has to be above 0.00001 a second, the highest no lower and \
             at most 10⁹ a second",
        ));
    }
    if let Some(node) = table.get("start") {
        search = search.starting_at(node.fraction()?);
        if !is_valid(&search) {
            return Err(node.wrong(format!("is not within {lowest} to {highest}")));
        }
    }
    match table.get("preset") {
        Some(node) => match node.text()? {
            "cubic" => Ok((unit, search)),
            "halving" => Ok((unit, search.halving())),
            other => Err(node.wrong(format!(
                "is an unknown preset{}; use one of cubic, halving",
                word(other)
            ))),
        },
        None => Ok((unit, search)),
    }
}

fn ramp(node: &Node<'_>) -> Result<(Unit, Ramp), Problem> {
    let minutes = &RATES[1..];
    let mut known: Vec<_> = minutes.iter().map(|(name, ..)| *name).collect();
    known.extend(["percent", "window"]);
    let table = node.table(&known)?;
    let example = "input_tokens_per_minute = 1_000_000";
    let (floor, unit, _) = only_rate(&table, minutes, "bounds", example)?;
    let mut ramp = Ramp::above_per_minute(floor.whole(1..=60_000_000_000)?);
    if let Some(node) = table.get("percent") {
        ramp = ramp.percent(node.whole(1..=900)? as u16);
    }
    if let Some(node) = table.get("window") {
        let window = node.time()?;
        if !(Duration::from_secs(60)..=Duration::from_secs(86_400)).contains(&window) {
            return Err(node.wrong("is not from a minute to a day; write it like \"15m\""));
        }
        ramp = ramp.window(window);
    }
    let quota = Quota::builder().ramp(unit, ramp.clone()).build();
    quota.map_err(|error| table.wrong(format!("cannot be: {}", error.problem())))?;
    Ok((unit, ramp))
}

/// The one rate that the table is about.
fn only_rate<'t>(
    table: &Table<'t>,
    rates: &[(&str, Unit, f64)],
    verb: &str,
    example: &str,
) -> Result<(Node<'t>, Unit, f64), Problem> {
    let mut named = rates
        .iter()
        .filter_map(|(name, unit, per)| Some((table.get(name)?, *unit, *per)));
    match (named.next(), named.next()) {
        (Some(rate), None) => Ok(rate),
        (None, _) => Err(table.wrong(format!("{verb} no rate; add one, such as {example}"))),
        (Some(_), Some((second, ..))) => {
            Err(second.wrong("is a second rate in one table; write a list of tables, one for each"))
        }
    }
}
