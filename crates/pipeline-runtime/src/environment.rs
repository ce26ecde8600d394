//! Command-line parsing. Each flag has an environment variable, and help output tolerates a closed pipe.

use clap::{ArgMatches, Command};
use clap_complete::{Shell, generate};

use crate::exit::Failure;
use crate::output;

/// Parses the command line. Prints help or the version if requested and returns `None`.
///
/// A usage error ends the process with clap's message and exit code 2.
pub fn parse(command: Command) -> Result<Option<ArgMatches>, Failure> {
    match command.try_get_matches() {
        Ok(matches) => Ok(Some(matches)),
        Err(error) if error.use_stderr() => error.exit(),
        Err(help) => {
            let written = help.print().map_err(anyhow::Error::from);
            output::unless_closed(written).map(|()| None)
        }
    }
}

/// Prints the shell completion script of a program.
pub fn completions(shell: Shell, command: &mut Command, program: &str) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(shell, command, program, &mut script);
    output::print(String::from_utf8_lossy(&script))
}

/// Returns the variable of a flag, such as `KAFKA_CONSUMER_GROUP_ID` for `--group-id`.
#[must_use]
pub fn variable_of(prefix: &str, flag: &str) -> String {
    format!("{prefix}_{}", flag.replace('-', "_").to_uppercase())
}

/// Adds the variable `<PREFIX>_<FLAG>` to each flag of a command and of its subcommands.
///
/// For example, `--group-id` gets `KAFKA_CONSUMER_GROUP_ID`. A flag that already has a variable keeps it,
/// and `--yes` gets none, because it confirms one action.
#[must_use]
pub fn with_variables(command: Command, prefix: &str) -> Command {
    let command = command.mut_args(|argument| {
        let Some(flag) = argument.get_long().filter(|_| argument.get_env().is_none()) else {
            return argument;
        };
        if matches!(flag, "help" | "version" | "yes") {
            return argument;
        }
        let variable = variable_of(prefix, flag);
        argument.env(variable).hide_env_values(true)
    });
    command.mut_subcommands(|subcommand| with_variables(subcommand, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    #[test]
    fn flags_have_variables_at_every_level() {
        let command = Command::new("a")
            .arg(Arg::new("one").long("group-id"))
            .arg(Arg::new("two").long("url").env("DATABASE_URL"))
            .subcommand(Command::new("b").arg(Arg::new("three").long("rows")).arg(Arg::new("yes").long("yes")));
        let command = with_variables(command, "KAFKA_CONSUMER");
        let variable = |command: &Command, id: &str| {
            let argument = command.get_arguments().find(|argument| argument.get_id() == id);
            argument.and_then(Arg::get_env).map(|name| name.to_string_lossy().into_owned())
        };
        assert_eq!(variable(&command, "one").as_deref(), Some("KAFKA_CONSUMER_GROUP_ID"));
        assert_eq!(variable(&command, "two").as_deref(), Some("DATABASE_URL"));
        let inner = command.find_subcommand("b").unwrap();
        assert_eq!(variable(inner, "three").as_deref(), Some("KAFKA_CONSUMER_ROWS"));
        assert_eq!(variable(inner, "yes"), None);
    }
}
