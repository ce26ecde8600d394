//! Markdown from clap's definitions: a section per command, a table per help heading.

use std::fmt::Write;

use clap::{Arg, Command};
use pipeline_runtime::environment::variable_of;

/// Returns the introduction followed by one section per program.
pub(crate) fn page(introduction: &str, programs: impl IntoIterator<Item = Command>) -> String {
    let mut page = introduction.to_owned();
    for mut program in programs {
        program.build();
        section(&mut page, &program, program.get_name(), 2);
    }
    page
}

fn section(page: &mut String, command: &Command, name: &str, level: usize) {
    let _ = write!(page, "\n{} {name}\n\n", "#".repeat(level));
    if let Some(about) = command.get_long_about().or(command.get_about()) {
        let _ = writeln!(page, "{}", wrapped(&about.to_string()));
    }
    if let Some(usage) = usage(command, name) {
        let _ = write!(page, "\n```text\n{usage}\n```\n");
    }
    for (heading, arguments) in tables(command, level == 2) {
        let _ = write!(page, "\n**{heading}**\n\n| flag | default | description |\n|---|---|---|\n");
        for argument in arguments {
            let _ = writeln!(page, "{}", row(argument));
        }
    }
    if let Some(after) = command.get_after_long_help().or(command.get_after_help()) {
        let _ = write!(page, "\n```text\n{}\n```\n", after.to_string().trim_end());
    }
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        section(page, inner, &format!("{name} {}", inner.get_name()), level + 1);
    }
}

fn usage(command: &Command, name: &str) -> Option<String> {
    let usage = command.clone().render_usage().to_string();
    let (_, arguments) = usage.split_once(name)?;
    let lines: Vec<&str> = arguments.lines().map(str::trim).collect();
    Some(format!("{name} {}", lines.join("\n")).trim_end().to_owned())
}

/// Returns the arguments by help heading. The program lists only global flags: its other flags are those of `run`.
fn tables(command: &Command, is_program: bool) -> Vec<(String, Vec<&Arg>)> {
    let mut tables: Vec<(String, Vec<&Arg>)> = Vec::new();
    for argument in command.get_arguments() {
        let hidden = argument.is_hide_set() || matches!(argument.get_id().as_str(), "help" | "version");
        if hidden || argument.is_global_set() != is_program {
            continue;
        }
        let heading = argument.get_help_heading().unwrap_or("Options").to_owned();
        match tables.iter_mut().find(|(name, _)| *name == heading) {
            Some((_, arguments)) => arguments.push(argument),
            None => tables.push((heading, vec![argument])),
        }
    }
    tables
}

fn row(argument: &Arg) -> String {
    let flags =
        [argument.get_short().map(|short| format!("-{short}")), argument.get_long().map(|long| format!("--{long}"))];
    let mut flag = flags.into_iter().flatten().collect::<Vec<_>>().join(", ");
    if argument.get_action().takes_values() {
        let names = argument.get_value_names().unwrap_or_default();
        let values = names.iter().map(|name| format!("<{name}>")).collect::<Vec<_>>().join(" ");
        flag = [flag, values].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    }
    let default = argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy()));
    let default =
        if argument.get_action().takes_values() { default.collect::<Vec<_>>().join(", ") } else { String::new() };
    [format!("`{flag}`"), default, description(argument)]
        .iter()
        .fold(String::from("|"), |row, text| row + " " + &cell(text) + " |")
}

fn description(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help());
    let mut text = help.map(ToString::to_string).unwrap_or_default();
    let values: Vec<_> = argument.get_possible_values();
    let values: Vec<String> =
        values.iter().filter(|value| !value.is_hide_set()).map(|value| format!("`{}`", value.get_name())).collect();
    if argument.get_action().takes_values() && !values.is_empty() {
        let _ = write!(text, ". Values: {}", values.join(", "));
    }
    if let Some(variable) =
        argument.get_env().map(|name| name.to_string_lossy()).filter(|name| !follows_rule(argument, name))
    {
        let _ = write!(text, ". Variable: `{variable}`");
    }
    text
}

/// Returns true if a variable is the program's prefix and the flag's name, which the introduction states.
fn follows_rule(argument: &Arg, variable: &str) -> bool {
    let flag = argument.get_long().unwrap_or_default();
    ["EVENT_GENERATOR", "KAFKA_CONSUMER"].iter().any(|prefix| variable == variable_of(prefix, flag))
}

/// Escapes a text for a table cell: one line, no column separator, no markup from placeholders such as `<run>`.
fn cell(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let escape =
        |(index, part): (usize, &str)| if index % 2 == 0 { part.replace('<', "&lt;") } else { part.to_owned() };
    line.replace('|', "\\|").split('`').enumerate().map(escape).collect::<Vec<_>>().join("`")
}

/// Wraps each paragraph at 100 columns.
fn wrapped(text: &str) -> String {
    let mut wrapped = String::new();
    for paragraph in text.split("\n\n") {
        if !wrapped.is_empty() {
            wrapped.push_str("\n\n");
        }
        let mut column = 0;
        for word in paragraph.split_whitespace() {
            if column > 0 && column + 1 + word.len() > 100 {
                wrapped.push('\n');
                column = 0;
            } else if column > 0 {
                wrapped.push(' ');
                column += 1;
            }
            wrapped.push_str(word);
            column += word.len();
        }
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction, Command};

    use super::*;

    fn program() -> Command {
        Command::new("kafka-consumer")
            .about("Loads rows")
            .arg(Arg::new("verbose").long("verbose").global(true).action(ArgAction::SetTrue).help("Log more"))
            .subcommand(
                Command::new("run")
                    .about("Read and insert")
                    .arg(
                        Arg::new("group")
                            .long("group-id")
                            .value_name("ID")
                            .default_value("warehouse")
                            .help("Consumer group a|b")
                            .env("KAFKA_CONSUMER_GROUP_ID"),
                    )
                    .arg(
                        Arg::new("url")
                            .long("database-url")
                            .value_name("URL")
                            .help("Database of <host>")
                            .env("DATABASE_URL"),
                    )
                    .arg(Arg::new("secret").long("secret").hide(true)),
            )
            .subcommand(Command::new("offsets").subcommand(Command::new("set").about("Move the group")))
    }

    #[test]
    fn a_usage_begins_with_the_full_name_of_its_command() {
        let page = page("", [program()]);
        assert!(page.contains("```text\nkafka-consumer offsets set [OPTIONS]\n```"), "{page}");
    }

    #[test]
    fn a_page_has_a_section_per_command_and_a_row_per_flag() {
        let page = page("# Configuration\n", [program()]);
        for expected in [
            "\n## kafka-consumer\n\nLoads rows\n",
            "| `--verbose` |  | Log more |",
            "\n### kafka-consumer run\n",
            "| `--group-id <ID>` | `warehouse` | Consumer group a\\|b |",
            "| `--database-url <URL>` |  | Database of &lt;host>. Variable: `DATABASE_URL` |",
        ] {
            assert!(page.contains(expected), "{expected} is missing in\n{page}");
        }
        assert_eq!(page.matches("--verbose").count(), 1, "{page}");
        assert!(!page.contains("secret"), "{page}");
    }

    #[test]
    fn long_paragraphs_are_wrapped() {
        let text = format!("{}\n\nshort", "word ".repeat(30));
        let lines: Vec<usize> = wrapped(&text).lines().map(str::len).collect();
        assert_eq!(lines, [99, 49, 0, 5]);
    }
}
