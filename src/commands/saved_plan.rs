//! A plan in a file: what somebody has read and approved. Nothing is carried out from it. `up`
//! plans again and goes on only if that is the same plan, so the file needs no secret, no
//! signature, and cannot be out of date without being noticed.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value as Json;

use super::files::replace;
use crate::cli::duration;
use crate::exit::{Exit, Failure, Message, MessageId};
use crate::output::json::{Answer, Body, Document, PlanDocument};
use crate::reconcile::plan::Plan;
use crate::text::sanitize::sanitize_line;

/// No plan is larger.
const MOST: u64 = 16 * 1024 * 1024;
/// Of a line of the difference.
const LINE: usize = 300;

/// Writes it in the place of an older one.
pub(super) fn write(file: &Path, plan: &Plan, uri: &str) -> Result<(), Failure> {
    let document = PlanDocument {
        uri: uri.to_owned(),
        ..plan.into()
    };
    let document = Document::new(Body::Answer(Answer::Plan(document)));
    let failed = |error: String| {
        let text = format!("writing {}: {error}", file.display());
        Failure::new(Exit::Failed, MessageId::FileNotWritten, text, "")
    };
    let mut text = serde_json::to_string_pretty(&document).map_err(|e| failed(e.to_string()))?;
    text.push('\n');
    replace(file, text.as_bytes()).map_err(|e| failed(e.to_string()))
}

/// Refuses a plan that is not the one in the file.
pub(super) fn ensure_same(file: &Path, found: &Plan) -> Result<(), Failure> {
    let saved = read(file)?;
    let found = serde_json::to_value(PlanDocument::from(found)).unwrap_or_default();
    let difference = difference(&saved, &found);
    if difference.is_empty() {
        return Ok(());
    }
    let name = text(&found["name"]);
    let mut message = Message::new(
        MessageId::PlanDiffers,
        format!(
            "{name}: what would be done now is not the plan in {}, and nothing was changed",
            file.display()
        ),
        format!(
            "`lbctl plan --out {}` writes the present plan, to be read again",
            file.display()
        ),
    );
    message.detail = difference;
    Err(Failure {
        exit: Exit::Refused,
        messages: vec![message],
    })
}

/// Whether it is no name of a file, as far as one can tell, but a time.
pub(super) fn is_duration(file: &Path) -> bool {
    file.to_str().is_some_and(|text| duration(text).is_ok())
}

/// Refuses a file that holds no plan before a host is asked.
pub(super) fn ensure_readable(file: &Path) -> Result<(), Failure> {
    read(file).map(drop)
}

fn read(file: &Path) -> Result<Json, Failure> {
    let failed = |id, text: String| {
        Failure::new(Exit::Usage, id, text, "`lbctl plan --out FILE` writes one")
    };
    let mut content = Vec::new();
    File::open(file)
        .and_then(|open| open.take(MOST).read_to_end(&mut content))
        .map_err(|error| {
            let given = file.display().to_string();
            let text = format!("reading the plan {given}: {error}");
            // What stands behind `--wait` and a blank is no value of it.
            if is_duration(file) {
                let hint = format!("to wait for so long, write --wait={given}");
                return Failure::new(Exit::Usage, MessageId::FileUnreadable, text, hint);
            }
            failed(MessageId::FileUnreadable, text)
        })?;
    let not_a_plan = || {
        let text = format!("{} is not a plan of lbctl", file.display());
        failed(MessageId::PlanUnreadable, text)
    };
    let saved: Json = serde_json::from_slice(&content).map_err(|_| not_a_plan())?;
    if saved["command"] == "plan" && saved["changes"].is_array() && saved["steps"].is_array() {
        Ok(saved)
    } else {
        Err(not_a_plan())
    }
}

fn text(value: &Json) -> String {
    sanitize_line(value.as_str().unwrap_or_default(), LINE)
}

/// The lines that are in one of them only, in the order of each. A certificate's dates and the
/// words for people in notes are not compared.
fn difference(saved: &Json, found: &Json) -> Vec<String> {
    let (before, now) = (lines(saved), lines(found));
    if before == now {
        return Vec::new();
    }
    let gone = before.iter().filter(|line| !now.contains(line));
    let new = now.iter().filter(|line| !before.contains(line));
    let mut lines: Vec<String> = gone.map(|line| format!("- {}", line.0)).collect();
    lines.extend(new.map(|line| format!("+ {}", line.0)));
    if lines.is_empty() {
        lines.push("the same lines come in another order, or more than once".to_owned());
    }
    lines
}

/// What is compared of a plan: a line for people, and all of it.
fn lines(plan: &Json) -> Vec<(String, Json)> {
    let list = |key: &str| plan[key].as_array().cloned().unwrap_or_default();
    let name = (format!("name {}", text(&plan["name"])), Json::Null);
    let change = |change: Json| {
        let kind = text(&change["kind"]);
        let dated = kind == "client-certificate";
        let (from, to) = (text(&change["from"]), text(&change["to"]));
        let line = if dated {
            format!("{}: another one", text(&change["what"]))
        } else {
            format!("{}: {from} -> {to}", text(&change["what"]))
        };
        let all = [
            change["kind"].clone(),
            change["class"].clone(),
            if dated {
                Json::Null
            } else {
                change["diff"].clone()
            },
        ];
        (line, Json::from(all.to_vec()))
    };
    let step = |step: Json| {
        let all = [step["kind"].clone(), step["target"].clone()];
        (text(&step["text"]), Json::from(all.to_vec()))
    };
    let mut lines = vec![name];
    lines.extend(list("changes").into_iter().map(change));
    lines.extend(list("step_details").into_iter().map(step));
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reconcile::plan::Step;

    fn plan() -> Plan {
        let domain = || "lb-1".to_owned();
        Plan {
            name: domain(),
            changes: Vec::new(),
            steps: vec![Step::Start { domain: domain() }],
            notes: Vec::new(),
            continues: false,
            no_spare: false,
        }
    }

    #[test]
    fn the_same_plan_goes_on_and_another_one_is_refused_with_the_difference() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plan");
        write(&file, &plan(), "qemu:///system").unwrap();
        ensure_same(&file, &plan()).unwrap();
        let mut other = plan();
        other.steps = vec![Step::Undefine {
            domain: "lb-1".into(),
        }];
        let refused = ensure_same(&file, &other).unwrap_err();
        assert_eq!(refused.exit, Exit::Refused);
        assert_eq!(
            refused.messages[0].detail,
            ["- start domain lb-1", "+ undefine domain lb-1"]
        );
        // Another load balancer's.
        other = plan();
        other.name = "lb-2".into();
        assert!(ensure_same(&file, &other).is_err());
    }

    #[test]
    fn what_is_not_a_plan_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plan");
        let of = |file: &Path| ensure_same(file, &plan()).unwrap_err();
        assert_eq!(of(&file).messages[0].id, MessageId::FileUnreadable);
        for text in ["", "[]", "{\"command\": \"up\"}", "\u{1b}[2J"] {
            std::fs::write(&file, text).unwrap();
            let failure = of(&file);
            assert_eq!(failure.messages[0].id, MessageId::PlanUnreadable);
            assert_eq!(failure.exit, Exit::Usage);
        }
    }
}
