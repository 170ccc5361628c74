//! What the kernel's verifier walked of each program, held against the budgets in `ebpf/budgets.txt`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Each line: a program, and how many instructions the verifier may walk of it, on any kernel.
const BUDGETS: &str = include_str!("../../../../ebpf/budgets.txt");

/// The kernel keeps no count of what its verifier walked.
#[derive(Debug, thiserror::Error)]
#[error("kernels before 5.16 do not say what their verifier walked")]
pub(super) struct NotTold;

/// Whether every loaded program keeps its budget, by what `kerntally status` says.
pub(super) fn keep(status: &Value) -> Result<()> {
    let budgets = parse(BUDGETS)?;
    let programs = status["programs"].as_array();
    let walked: BTreeMap<_, _> = programs
        .into_iter()
        .flatten()
        .filter_map(|program| {
            let walked = program["verified_instructions"].as_u64()?;
            Some((program["name"].as_str()?, walked))
        })
        .filter(|(_, walked)| *walked > 0)
        .collect();
    if walked.is_empty() {
        return Err(NotTold.into());
    }
    let beyond: Vec<_> = walked
        .into_iter()
        .filter_map(|(program, walked)| match budgets.get(program) {
            None => Some(format!("`{program}` has no budget and took {walked}")),
            Some(budget) if walked > *budget => {
                Some(format!("`{program}` took {walked}, {budget} are allowed"))
            }
            Some(_) => None,
        })
        .collect();
    ensure!(
        beyond.is_empty(),
        "instructions that the verifier walked: {}",
        beyond.join("; ")
    );
    Ok(())
}

fn parse(text: &str) -> Result<BTreeMap<&str, u64>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (program, budget) = line
                .split_once(' ')
                .with_context(|| format!("expected a program and a number, got `{line}`"))?;
            let budget = budget.trim().parse();
            Ok((program, budget.with_context(|| format!("in `{line}`"))?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(name: &str, walked: u64) -> Value {
        json!({ "programs": [{ "name": name, "verified_instructions": walked },
                             { "name": "not_loaded", "verified_instructions": 0 }] })
    }

    #[test]
    fn a_program_beyond_its_budget_or_without_one_is_refused() {
        let budget = parse(BUDGETS).unwrap()["sys_exit"];
        assert!(keep(&status("sys_exit", budget)).is_ok());
        let beyond = keep(&status("sys_exit", budget + 1)).unwrap_err();
        assert!(beyond.to_string().contains("sys_exit"), "{beyond}");
        let unknown = keep(&status("sys_enter", 1)).unwrap_err();
        assert!(unknown.to_string().contains("no budget"), "{unknown}");
    }

    #[test]
    fn a_kernel_that_keeps_no_count_is_no_pass() {
        assert!(keep(&status("sys_exit", 0)).unwrap_err().is::<NotTold>());
    }
}
