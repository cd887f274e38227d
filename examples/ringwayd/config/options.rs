//! Keys of a file as arguments of the command line, judged by what judges those. Pure.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::document::{Complaint, Document, Entry, Table, Value};
use crate::cli::CommandLine;

/// Below this likeness (Jaro-Winkler) another name is no suggestion.
const LIKE: f64 = 0.8;
/// What belongs to the command line alone.
const NOT_IN_FILES: [&str; 3] = ["config", "help", "version"];

/// All settings of a file, each of which is good by itself.
#[derive(Debug)]
pub(crate) struct Options {
    commands: Vec<(String, Vec<Setting>)>,
}

/// One setting, as the command line has it.
#[derive(Debug)]
struct Setting {
    option: String,
    positional: bool,
    arguments: Vec<OsString>,
}

impl Options {
    /// Judges every key and every value.
    ///
    /// # Errors
    ///
    /// All that is wrong, in the order of the lines.
    pub(crate) fn judge(document: &Document) -> Result<Options, Vec<Complaint>> {
        let mut root = CommandLine::command();
        root.build();
        let (mut commands, mut complaints) = (Vec::new(), Vec::new());
        for table in &document.tables {
            match judge_table(&root, table, &mut complaints) {
                Some(settings) => commands.push((table.name.clone(), settings)),
                None => {
                    let names = root.get_subcommands().filter(|command| takes_settings(command));
                    let what = unknown("command", &table.name, names.map(Command::get_name));
                    complaints.push(Complaint { line: table.line, what });
                }
            }
        }
        complaints.sort_by_key(|complaint| complaint.line);
        if complaints.is_empty() { Ok(Options { commands }) } else { Err(complaints) }
    }

    /// The arguments of one command, but for the options that were said already.
    pub(crate) fn arguments(&self, command: &str, said: impl Fn(&str) -> bool) -> Vec<OsString> {
        let here = self.commands.iter().filter(|(name, _)| name == command);
        let mut settings: Vec<&Setting> =
            here.flat_map(|(_, settings)| settings).filter(|one| !said(&one.option)).collect();
        settings.sort_by_key(|setting| !setting.positional);
        settings.into_iter().flat_map(|setting| setting.arguments.iter().cloned()).collect()
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (command, settings) in &self.commands {
            let plural = if settings.len() == 1 { "" } else { "s" };
            write!(f, "{comma}{} option{plural} of {command}", settings.len())?;
            comma = ", ";
        }
        f.write_str(if comma.is_empty() { "no options, all good" } else { ", all good" })
    }
}

/// A command that has options besides those of every command.
fn takes_settings(command: &Command) -> bool {
    !matches!(command.get_name(), "help" | "check")
}

/// None if there is no such command.
fn judge_table(
    root: &Command,
    table: &Table,
    complaints: &mut Vec<Complaint>,
) -> Option<Vec<Setting>> {
    let command = root.find_subcommand(&table.name).filter(|found| takes_settings(found))?;
    let mut settings = Vec::new();
    for entry in &table.entries {
        match judge_entry(root, command, entry) {
            Ok(setting) => settings.push(setting),
            Err(what) => complaints.push(Complaint { line: entry.line, what }),
        }
    }
    Some(settings)
}

fn judge_entry(root: &Command, command: &Command, entry: &Entry) -> Result<Setting, String> {
    let allowed = |option: &&Arg| !NOT_IN_FILES.contains(&option.get_id().as_str());
    let mut options = command.get_arguments().filter(allowed);
    let Some(option) = options.find(|option| option.get_id().as_str() == entry.key) else {
        let names = command.get_arguments().filter(allowed).map(|option| option.get_id().as_str());
        let what = format!("option of {}", command.get_name());
        return Err(unknown(&what, &entry.key, names));
    };
    let arguments = arguments(option, entry)?;
    let mut line = vec![OsString::from(root.get_name()), command.get_name().into()];
    line.extend(arguments.iter().cloned());
    match root.clone().try_get_matches_from(line) {
        Ok(_) => {
            Ok(Setting { option: entry.key.clone(), positional: option.is_positional(), arguments })
        }
        Err(error) => Err(format!("`{}`: {}", entry.key, sentence(&error))),
    }
}

/// What the entry would be on the command line.
fn arguments(option: &Arg, entry: &Entry) -> Result<Vec<OsString>, String> {
    let key = &entry.key;
    let several = matches!(option.get_action(), ArgAction::Append);
    let words = match (&entry.value, option.get_action()) {
        (Value::Flag(true), ArgAction::SetTrue) => return Ok(vec![long(option)]),
        (Value::Flag(false), ArgAction::SetTrue) => return Ok(Vec::new()),
        (_, ArgAction::SetTrue) => return Err(format!("`{key}` is true or false")),
        (Value::Flag(_), _) => return Err(format!("`{key}` takes a value, not true or false")),
        (Value::List(_), _) if !several => return Err(format!("`{key}` takes one value")),
        (Value::List(words), _) => words.as_slice(),
        (Value::Word(word), _) => std::slice::from_ref(word),
    };
    words
        .iter()
        .map(|word| match option.is_positional() {
            true if word.starts_with('-') => Err(format!("`{key}`: write `./{word}`")),
            true => Ok(word.into()),
            false => {
                let mut argument = long(option);
                argument.push("=");
                argument.push(word);
                Ok(argument)
            }
        })
        .collect()
}

fn long(option: &Arg) -> OsString {
    format!("--{}", option.get_long().unwrap_or_default()).into()
}

fn unknown<'n>(what: &str, name: &str, names: impl Iterator<Item = &'n str>) -> String {
    let like = |other: &str| strsim::jaro_winkler(name, other);
    let best = names.map(|other| (like(other), other)).max_by(|(a, _), (b, _)| a.total_cmp(b));
    match best {
        Some((likeness, other)) if likeness >= LIKE => {
            format!("`{name}` is no {what}; did you mean `{other}`?")
        }
        _ => format!("`{name}` is no {what}; `--help` lists what there is"),
    }
}

/// What clap has to say, without its heading and its hints.
pub(crate) fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\nFor more information").next().unwrap_or(&text);
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The command line with more arguments behind the command, where each can be followed by anything.
pub(crate) fn insert(
    arguments: &[OsString],
    command: &str,
    more: &[OsString],
    config: &Path,
) -> Vec<OsString> {
    let mut line: Vec<OsString> = arguments.first().cloned().into_iter().collect();
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        if argument == OsStr::new("--config") {
            rest.next();
        } else if argument == OsStr::new(command) {
            break;
        }
    }
    line.push(command.into());
    line.extend_from_slice(more);
    // An option with one value: nothing that follows can be taken for a value of the one before.
    line.push("--config".into());
    line.push(config.into());
    while let Some(argument) = rest.next() {
        if argument == OsStr::new("--") {
            line.push(argument.clone());
            line.extend(rest.by_ref().cloned());
        } else if argument == OsStr::new("--config") {
            rest.next();
        } else if !argument.as_encoded_bytes().starts_with(b"--config=") {
            line.push(argument.clone());
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli;

    fn judge(text: &str) -> Result<Options, Vec<Complaint>> {
        Options::judge(&Document::parse(text).unwrap())
    }

    /// The one complaint about a text.
    fn complaint(text: &str) -> (usize, String) {
        let mut complaints = judge(text).unwrap_err();
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        let Complaint { line, what } = complaints.remove(0);
        (line, what)
    }

    /// The command line that comes of a text and of what was said.
    fn merged(text: &str, said: &[&str]) -> cli::Command {
        let arguments: Vec<OsString> =
            [&["ringwayd", "--config", "x"], said].concat().iter().map(OsString::from).collect();
        let matches = CommandLine::command().get_matches_from(&arguments);
        let (command, given) = matches.subcommand().unwrap();
        let more = judge(text).unwrap().arguments(command, |option| {
            given.value_source(option) == Some(clap::parser::ValueSource::CommandLine)
        });
        let line = insert(&arguments, command, &more, Path::new("x"));
        CommandLine::try_parse_from(line).unwrap().command
    }

    #[test]
    fn a_file_sets_what_the_command_line_does_not_say() {
        let text = "[serve]\nlisten = [\"127.0.0.1:1\", \"[::1]:2\"]\nhidden = true\n\
                    idle_timeout_seconds = 7\nlog_format = \"json\"\n";
        let cli::Command::Serve(serve) = merged(text, &["serve"]) else { panic!() };
        assert_eq!((serve.listen.len(), serve.hidden), (2, true));
        assert_eq!(serve.limits.idle_timeout_seconds, 7);
        assert_eq!(serve.limits.send_timeout_seconds, 60);
        let said = ["serve", "--listen", "127.0.0.1:3", "--idle-timeout-seconds=8"];
        let cli::Command::Serve(serve) = merged(text, &said) else { panic!() };
        assert_eq!(serve.listen, ["127.0.0.1:3".parse().unwrap()]);
        assert_eq!(serve.limits.idle_timeout_seconds, 8);
    }

    #[test]
    fn lists_and_files_are_replaced_as_a_whole_and_never_mixed_up() {
        let text = "[push]\nfiles = [\"a\", \"b\"]\nto = [\"http://x/\", \"http://y/\"]\n";
        let cli::Command::Push(push) = merged(text, &["push"]) else { panic!() };
        assert_eq!((push.files.len(), push.to.len()), (2, 2));
        let cli::Command::Push(push) = merged(text, &["push", "c"]) else { panic!() };
        assert_eq!((push.files, push.to.len()), (vec!["c".into()], 2));
        let cli::Command::Push(push) = merged(text, &["push", "--to", "http://z/", "--", "-d"])
        else {
            panic!()
        };
        assert_eq!((push.files, push.to.len()), (vec!["-d".into()], 1));
    }

    #[test]
    fn a_key_that_is_no_option_is_told_with_what_was_meant() {
        let (line, what) = complaint("[serve]\nroot = \".\"\nidle_timeout_second = 5\n");
        assert_eq!(line, 3);
        assert_eq!(
            what,
            "`idle_timeout_second` is no option of serve; did you mean `idle_timeout_seconds`?"
        );
        assert!(complaint("[sever]\n").1.contains("did you mean `serve`?"));
        assert!(complaint("[serve]\nzzz = 1\n").1.contains("`--help` lists"));
        assert!(complaint("[serve]\nconfig = \"x\"\n").1.contains("is no option"));
        assert!(complaint("[check]\nfile = \"x\"\n").1.contains("is no command"));
    }

    #[test]
    fn a_value_is_judged_as_on_the_command_line() {
        let (line, what) = complaint("[serve]\n\nidle_timeout_seconds = 0\n");
        assert_eq!(line, 3);
        assert!(what.contains("0 is not in 1..=86400"), "{what}");
        assert!(complaint("[serve]\nlog_format = \"xml\"\n").1.contains("possible values: text"));
        assert!(complaint("[serve]\nlisten = [\"127.0.0.1\"]\n").1.contains("`listen`"));
        assert!(complaint("[serve]\nhidden = 1\n").1.contains("true or false"));
        assert!(complaint("[serve]\nthreads = true\n").1.contains("takes a value"));
        assert!(complaint("[serve]\nthreads = [1, 2]\n").1.contains("takes one value"));
        assert!(complaint("[push]\nfiles = [\"-x\"]\n").1.contains("`./-x`"));
        assert!(complaint("[push]\nto = [\"ftp://x/\"]\n").1.contains("http://"));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let complaints = judge("[serve]\nthread = 1\n[push]\nretries = -1\n").unwrap_err();
        let lines: Vec<usize> = complaints.iter().map(|complaint| complaint.line).collect();
        assert_eq!(lines, [2, 4]);
    }
}
