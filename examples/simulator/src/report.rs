//! Tables and JSON.

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde_json::{Value, json};

use crate::{
    retries::{self, Funding, Outage},
    scenario::Scenario,
    score::{Estimate, Row, on_all_cores},
};

pub(crate) fn cell(estimate: Estimate, digits: usize) -> String {
    let Estimate { mean, within } = estimate;
    format!("{mean:.digits$} ± {within:.digits$}")
}

pub(crate) fn table(scenario: &Scenario, rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    let mut header = vec![
        "contender",
        "goodput",
        "worst seed",
        "latency",
        "refused per success",
        "mean limit",
    ];
    match scenario.name.as_str() {
        "S3" => header.extend(["near 15 after, s", "limit in the last 20 s at 15"]),
        "S8" => header.extend(["recovered after, s", "attempts wasted"]),
        _ => {}
    }
    table.set_header(header);
    for row in rows {
        let mut cells = vec![
            row.contender.to_owned(),
            cell(row.goodput, 3),
            format!("{:.3} (#{})", row.worst, row.worst_seed),
            cell(row.latency, 2),
            cell(row.refused, 4),
            cell(row.limit, 1),
        ];
        cells.extend(row.settling.map(|estimate| cell(estimate, 1)));
        cells.extend(row.special.map(|estimate| cell(estimate, 1)));
        table.add_row(cells);
    }
    format!("### {}\n\n{table}\n", scenario.name)
}

/// One budget in R1.
#[derive(Clone, Debug)]
pub(crate) struct RetryRow {
    funding: Funding,
    success: Estimate,
    recovery: Estimate,
    attempts: Estimate,
}

pub(crate) fn retries(fundings: &[Funding], seeds: &[u64]) -> Vec<RetryRow> {
    let jobs: Vec<_> = fundings
        .iter()
        .flat_map(|funding| seeds.iter().map(|seed| (*funding, *seed)))
        .collect();
    let runs = on_all_cores(&jobs, |(funding, seed)| retries::run(*funding, *seed));
    fundings
        .iter()
        .zip(runs.chunks(seeds.len()))
        .map(|(funding, runs)| {
            let over = |figure: fn(&Outage) -> f64| {
                Estimate::of(&runs.iter().map(figure).collect::<Vec<_>>())
            };
            RetryRow {
                funding: *funding,
                success: over(|run| run.success),
                recovery: over(|run| run.recovery),
                attempts: over(|run| run.attempts_per_call),
            }
        })
        .collect()
}

pub(crate) fn retry_table(rows: &[RetryRow]) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header([
        "budget",
        "success",
        "recovered after, s",
        "attempts per call",
    ]);
    for row in rows {
        table.add_row([
            row.funding.name().to_owned(),
            cell(row.success, 3),
            cell(row.recovery, 1),
            cell(row.attempts, 2),
        ]);
    }
    format!("### R1\n\n{table}\n")
}

/// Our budget recovers no later than without retries, and a tenth.
pub(crate) fn retry_miss(rows: &[RetryRow]) -> Option<String> {
    let recovery = |funding| {
        let row = rows.iter().find(|row| row.funding == funding)?;
        Some(row.recovery.mean)
    };
    let bound = recovery(Funding::NoRetries)? * 1.1;
    let is = recovery(Funding::Successes)?;
    (is > bound).then(|| format!("R1: recovery {is:.1} s is above {bound:.1} s"))
}

fn value(estimate: Estimate) -> Value {
    json!({ "mean": estimate.mean, "within": estimate.within })
}

pub(crate) fn json(rows: &[Row], budgets: &[RetryRow]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "scenario": row.scenario,
                "contender": row.contender,
                "goodput": value(row.goodput),
                "goodput_of_worst_seed": row.worst,
                "latency": value(row.latency),
                "refused_per_success": value(row.refused),
                "limit": value(row.limit),
                "settling_seconds": row.settling.map(value),
                "special": row.special.map(value),
            })
        })
        .collect();
    let budgets: Vec<_> = budgets
        .iter()
        .map(|row| {
            json!({
                "budget": row.funding.name(),
                "success": value(row.success),
                "recovery_seconds": value(row.recovery),
                "attempts_per_call": value(row.attempts),
            })
        })
        .collect();
    let document = json!({ "scenarios": rows, "r1": budgets });
    serde_json::to_string_pretty(&document).expect("plain numbers and names")
}
