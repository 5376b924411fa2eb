//! The manual: lbctl(1), a page for each command, and lbctl.toml(5). Commands and options come from
//! the definition of the command line and keys from the table of keys, so no page can leave one
//! out; what else there is to say is in `about`. Nothing here prints or writes.

mod about;
mod keys;
mod roff;

use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::cli::Cli;
use about::{CommandAbout, Reads};
use roff::{Roff, bold, italic, plain};

/// One page of the manual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// `lbctl`, `lbctl-up`, `lbctl.toml`.
    pub name: String,
    pub section: &'static str,
    /// In roff, with the macros of man(7).
    pub text: String,
}

impl Page {
    /// The name of its file: `lbctl-up.1`.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }
}

/// Every page, that of lbctl itself first. The date, as 2026-11-22, is that of the program's
/// source; it may be empty.
#[must_use]
pub fn pages(date: &str) -> Vec<Page> {
    let mut main = Cli::command();
    main.build();
    let commands: Vec<&Command> = commands(&main).collect();
    let mut pages = vec![main_page(&main, &commands, date)];
    pages.extend(commands.iter().map(|c| command_page(c, &commands, date)));
    pages.push(keys::page(date));
    pages
}

/// The page of lbctl (`None`), of a command, or of what else has one: `lbctl.toml`.
#[must_use]
pub fn page(asked: Option<&str>, date: &str) -> Option<Page> {
    let name = match asked {
        None | Some("lbctl") => "lbctl".to_owned(),
        Some(other) if other.starts_with("lbctl") => other.to_owned(),
        Some(command) => format!("lbctl-{command}"),
    };
    pages(date).into_iter().find(|page| page.name == name)
}

/// What can be asked for by name.
#[must_use]
pub fn topics() -> Vec<String> {
    let main = Cli::command();
    let names = commands(&main).map(|c| c.get_name().to_owned());
    names.chain([keys::NAME.to_owned()]).collect()
}

/// clap's own `help` is an option on every page.
fn commands(main: &Command) -> impl Iterator<Item = &Command> {
    main.get_subcommands()
        .filter(|c| c.get_name() != "help" && !c.is_hide_set())
}

fn main_page(main: &Command, commands: &[&Command], date: &str) -> Page {
    let mut roff = Roff::titled("lbctl", "1", date);
    name(&mut roff, "lbctl", main);
    roff.section("SYNOPSIS");
    roff.line(&[
        bold("lbctl"),
        plain(" ["),
        italic("OPTIONS"),
        plain("] "),
        italic("COMMAND"),
        plain(" ["),
        italic("ARGUMENTS"),
        plain("]"),
    ]);
    roff.section("DESCRIPTION");
    roff.paragraphs(about::MAIN);
    roff.section("COMMANDS");
    for command in commands {
        let page = format!("lbctl-{}", command.get_name());
        roff.tag(&[bold(&page), plain("(1)")]);
        roff.text(&sentence(&summary(command)));
    }
    options(&mut roff, main);
    exits(&mut roff, about::ALL_EXITS);
    environment(&mut roff, Reads::Host);
    files(&mut roff, Reads::Host, about::MAIN_FILES);
    examples(&mut roff, about::MAIN_EXAMPLES);
    let pages = commands
        .iter()
        .map(|c| (format!("lbctl-{}", c.get_name()), "1"));
    let others = about::MAIN_SEE.iter().map(|(n, s)| ((*n).to_owned(), *s));
    see_also(&mut roff, pages.chain(others));
    Page {
        name: "lbctl".into(),
        section: "1",
        text: roff.end(),
    }
}

fn command_page(command: &Command, commands: &[&Command], date: &str) -> Page {
    let page = format!("lbctl-{}", command.get_name());
    let about = CommandAbout::find(command.get_name());
    let mut roff = Roff::titled(&page, "1", date);
    name(&mut roff, &page, command);
    roff.section("SYNOPSIS");
    synopsis(&mut roff, command);
    roff.section("DESCRIPTION");
    // The first line of a long text is the summary, with which the page begins anyway.
    if let Some(long) = command.get_long_about() {
        let text = long.to_string();
        let rest = text.split("\n\n").skip(1);
        roff.paragraphs(&rest.collect::<Vec<_>>());
    } else if about.more.is_empty() {
        roff.text(&sentence(&summary(command)));
    }
    roff.paragraphs(about.more);
    options(&mut roff, command);
    exits(&mut roff, about.exits);
    environment(&mut roff, about.reads);
    files(&mut roff, about.reads, about.files);
    examples(&mut roff, about.examples);
    let known = |name: &str| commands.iter().any(|c| c.get_name() == name);
    let near = about.near.iter().filter(|name| known(name));
    let mut see = vec![("lbctl".to_owned(), "1")];
    see.extend(near.map(|name| (format!("lbctl-{name}"), "1")));
    if about.reads != Reads::Nothing {
        see.push((keys::NAME.to_owned(), "5"));
    }
    see_also(&mut roff, see);
    Page {
        name: page,
        section: "1",
        text: roff.end(),
    }
}

fn summary(command: &Command) -> String {
    command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// In the form that `whatis` reads.
fn name(roff: &mut Roff, page: &str, command: &Command) {
    roff.name(page, &summary(command).replace('`', ""));
}

fn synopsis(roff: &mut Roff, command: &Command) {
    let mut line = vec![
        bold("lbctl"),
        plain(" ["),
        italic("OPTIONS"),
        plain("] "),
        bold(command.get_name()),
    ];
    for argument in own_arguments(command) {
        let (before, after) = if argument.is_required_set() {
            (" ", "")
        } else {
            (" [", "]")
        };
        line.push(plain(before));
        if let Some(long) = argument.get_long() {
            line.push(bold(&format!("--{long}")));
        }
        line.extend(value(argument));
        line.push(plain(after));
    }
    roff.line(&line);
}

fn own_arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|a| {
        let general = a.is_global_set() || ["help", "version"].contains(&a.get_id().as_str());
        !a.is_hide_set() && !general
    })
}

fn general_arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|a| {
        let general = a.is_global_set() || ["help", "version"].contains(&a.get_id().as_str());
        !a.is_hide_set() && general
    })
}

/// What an argument takes, with the space or sign in front of it.
fn value(argument: &Arg) -> Vec<roff::Inline> {
    let takes = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    if !takes {
        return Vec::new();
    }
    let names = argument.get_value_names().unwrap_or_default();
    let joined: Vec<&str> = names.iter().map(clap::builder::Str::as_str).collect();
    let name = italic(&joined.join(" "));
    let optional = argument
        .get_num_args()
        .is_some_and(|range| range.min_values() == 0);
    match (argument.is_positional(), optional) {
        (true, _) => vec![name],
        (false, false) => vec![plain(" "), name],
        (false, true) => vec![plain("[="), name, plain("]")],
    }
}

fn options(roff: &mut Roff, command: &Command) {
    roff.section("OPTIONS");
    let own: Vec<&Arg> = own_arguments(command).collect();
    for argument in &own {
        option(roff, argument);
    }
    if !own.is_empty() {
        roff.subsection("Of every command");
    }
    for argument in general_arguments(command) {
        option(roff, argument);
    }
}

fn option(roff: &mut Roff, argument: &Arg) {
    let mut header = Vec::new();
    if let Some(short) = argument.get_short() {
        header.push(bold(&format!("-{short}")));
    }
    if let Some(long) = argument.get_long() {
        if !header.is_empty() {
            header.push(plain(", "));
        }
        header.push(bold(&format!("--{long}")));
    }
    header.extend(value(argument));
    roff.tag(&header);
    let help = argument
        .get_long_help()
        .or_else(|| argument.get_help())
        .map(ToString::to_string)
        .unwrap_or_default();
    for (place, paragraph) in help.split("\n\n").enumerate() {
        if place > 0 {
            roff.paragraph_in_tag();
        }
        roff.text(&sentence(paragraph));
    }
    let listed = choices(roff, argument);
    let defaults: Vec<String> = argument
        .get_default_values()
        .iter()
        .map(|v| v.to_string_lossy().into_owned())
        .collect();
    // clap has a default for what takes no value, too: false.
    if !defaults.is_empty() && !value(argument).is_empty() {
        if listed {
            roff.paragraph_in_tag();
        }
        roff.text(&format!("Default: `{}`.", defaults.join(" ")));
    }
}

/// The values that an argument takes; says whether they became a list.
fn choices(roff: &mut Roff, argument: &Arg) -> bool {
    if value(argument).is_empty() {
        return false;
    }
    let choices = argument.get_possible_values();
    let names: Vec<String> = choices
        .iter()
        .map(|c| format!("`{}`", c.get_name()))
        .collect();
    if names.is_empty() {
        return false;
    }
    if choices.iter().all(|c| c.get_help().is_none()) {
        roff.text(&format!("One of {}.", names.join(", ")));
        return false;
    }
    roff.indented(|roff| {
        for choice in &choices {
            roff.tag(&[bold(choice.get_name())]);
            let help = choice.get_help().map(ToString::to_string);
            roff.text(&sentence(&help.unwrap_or_default()));
        }
    });
    true
}

/// clap's texts end without a full stop.
fn sentence(text: &str) -> String {
    if text.is_empty() || text.ends_with(['.', ']', ':']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

fn exits(roff: &mut Roff, exits: &[(crate::exit::Exit, &str)]) {
    roff.section("EXIT STATUS");
    for (exit, meaning) in exits {
        roff.tag(&[bold(&(*exit as u8).to_string())]);
        roff.text(meaning);
    }
}

fn environment(roff: &mut Roff, reads: Reads) {
    roff.section("ENVIRONMENT");
    for (variable, needed_by, meaning) in about::ENVIRONMENT {
        if reads >= *needed_by {
            roff.tag(&[bold(variable)]);
            roff.text(meaning);
        }
    }
}

fn files(roff: &mut Roff, reads: Reads, more: &[(&str, &str)]) {
    let config: &[_] = if reads == Reads::Nothing {
        &[]
    } else {
        about::CONFIG_FILES
    };
    if config.is_empty() && more.is_empty() {
        return;
    }
    roff.section("FILES");
    for (path, meaning) in config.iter().chain(more) {
        roff.tag(&[italic(path)]);
        roff.text(meaning);
    }
}

fn examples(roff: &mut Roff, examples: &[(&str, &str)]) {
    if examples.is_empty() {
        return;
    }
    roff.section("EXAMPLES");
    for (place, (line, meaning)) in examples.iter().enumerate() {
        if place > 0 {
            roff.paragraph();
        }
        roff.text(meaning);
        roff.literal(&[line]);
    }
}

fn see_also(roff: &mut Roff, pages: impl IntoIterator<Item = (String, &'static str)>) {
    roff.section("SEE ALSO");
    let pages: Vec<_> = pages.into_iter().collect();
    let last = pages.len().saturating_sub(1);
    for (place, (page, section)) in pages.iter().enumerate() {
        let comma = if place == last { "" } else { "," };
        roff.page(page, section, comma);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[test]
    fn every_command_has_a_page_and_is_on_that_of_lbctl() {
        let pages = pages("2026-11-22");
        for command in commands(&Cli::command()) {
            let name = format!("lbctl-{}", command.get_name());
            let page = pages.iter().find(|p| p.name == name).unwrap();
            for argument in own_arguments(command).filter_map(Arg::get_long) {
                let shown = format!("\\fB{}\\fR", roff::escaped(&format!("--{argument}")));
                assert!(page.text.contains(&shown), "{name}: --{argument}");
            }
            let shown = roff::escaped(&name);
            assert!(pages[0].text.contains(&shown), "{name} on lbctl(1)");
        }
    }

    #[test]
    fn the_extra_texts_are_of_existing_commands_and_valid_lines() {
        let main = Cli::command();
        let names: Vec<&str> = commands(&main).map(Command::get_name).collect();
        for about in about::COMMANDS {
            assert!(names.contains(&about.command), "{}", about.command);
            for near in about.near {
                assert!(names.contains(near), "{}: {near}", about.command);
            }
            assert!(!about.examples.is_empty(), "{}", about.command);
        }
        let of_commands = about::COMMANDS.iter().flat_map(|a| a.examples);
        for (line, _) in of_commands.chain(about::MAIN_EXAMPLES) {
            let ours = line.split(['|', '>', '&', '<']).next().unwrap();
            let words = ours.split_whitespace().filter(|w| !w.contains("_CONFIG="));
            let parsed = Cli::try_parse_from(words.map(|w| w.trim_matches('"')));
            assert!(parsed.is_ok(), "{line}: {:?}", parsed.err());
        }
    }

    #[test]
    fn a_page_is_found_by_its_command_and_by_its_name() {
        for (asked, found) in [
            (None, Some("lbctl.1")),
            (Some("lbctl"), Some("lbctl.1")),
            (Some("up"), Some("lbctl-up.1")),
            (Some("lbctl-up"), Some("lbctl-up.1")),
            (Some("lbctl.toml"), Some("lbctl.toml.5")),
            (Some("upp"), None),
        ] {
            let page = page(asked, "").map(|p| p.file());
            assert_eq!(page.as_deref(), found, "{asked:?}");
        }
        for topic in topics() {
            assert!(page(Some(&topic), "").is_some(), "{topic}");
        }
    }
}
