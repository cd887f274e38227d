//! The text of a file of settings, as tables of keys that know their lines. Pure.

use toml::de::{DeTable, DeValue};

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// Counted from one.
    pub(crate) line: usize,
    pub(crate) what: String,
}

/// A file of settings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) tables: Vec<Table>,
}

/// The settings of one command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) entries: Vec<Entry>,
}

/// One setting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) value: Value,
}

/// What a setting can be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Flag(bool),
    /// A text or a number, as the command line would have it.
    Word(String),
    List(Vec<String>),
}

impl Document {
    /// Reads a text.
    ///
    /// # Errors
    ///
    /// Every place that is no TOML, or no setting of any command.
    pub(crate) fn parse(text: &str) -> Result<Document, Vec<Complaint>> {
        let line = |at: usize| 1 + text[..at.min(text.len())].matches('\n').count();
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut complaints: Vec<Complaint> = errors
            .iter()
            .map(|error| Complaint {
                line: line(error.span().map_or(0, |span| span.start)),
                what: format!("this is no TOML: {}", error.message()),
            })
            .collect();
        if !complaints.is_empty() {
            return Err(complaints);
        }
        let mut tables = Vec::new();
        for (name, table) in root.into_inner() {
            let (at, name) = (line(name.span().start), name.into_inner().into_owned());
            let DeValue::Table(table) = table.into_inner() else {
                let what = format!("`{name}` stands outside of a table: put it below `[serve]`");
                complaints.push(Complaint { line: at, what });
                continue;
            };
            let mut entries = Vec::new();
            for (key, value) in table {
                let (at, key) = (line(key.span().start), key.into_inner().into_owned());
                match read(value.into_inner()) {
                    Ok(value) => entries.push(Entry { key, line: at, value }),
                    Err(why) => {
                        complaints.push(Complaint { line: at, what: format!("`{key}` {why}") });
                    }
                }
            }
            entries.sort_by_key(|entry| entry.line);
            tables.push(Table { name, line: at, entries });
        }
        tables.sort_by_key(|table| table.line);
        complaints.sort_by_key(|complaint| complaint.line);
        if complaints.is_empty() { Ok(Document { tables }) } else { Err(complaints) }
    }
}

fn read(value: DeValue<'_>) -> Result<Value, &'static str> {
    match value {
        DeValue::Boolean(flag) => Ok(Value::Flag(flag)),
        DeValue::Array(values) => {
            let words = values.into_iter().map(|value| word(value.into_inner()));
            Ok(Value::List(words.collect::<Result<_, _>>()?))
        }
        DeValue::Table(_) => Err("is a table, and no option has one"),
        other => Ok(Value::Word(word(other)?)),
    }
}

fn word(value: DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.into_owned()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| "is too large a number"),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        _ => Err("is neither a text nor a number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_know_their_lines() {
        let text = "# x\n[push]\nto = [\"a\", \"b\"]\n\n[serve]\nhidden = true\nthreads = 0x10\n";
        let document = Document::parse(text).unwrap();
        let [push, serve] = &document.tables[..] else { panic!("{document:?}") };
        assert_eq!((push.name.as_str(), push.line), ("push", 2));
        let both = Value::List(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(push.entries, [Entry { key: "to".to_owned(), line: 3, value: both }]);
        assert_eq!(serve.entries[0].value, Value::Flag(true));
        let sixteen = Value::Word("16".to_owned());
        assert_eq!(serve.entries[1], Entry { key: "threads".to_owned(), line: 7, value: sixteen });
    }

    #[test]
    fn what_is_no_setting_is_told_with_its_line() {
        let complain = |text: &str| {
            let complaints = Document::parse(text).unwrap_err();
            (complaints[0].line, complaints[0].what.clone())
        };
        assert_eq!(complain("\n[serve\n").0, 2);
        assert_eq!(complain("[serve]\nroot = \n").0, 2);
        assert_eq!(complain("[serve]\nroot = 1\nroot = 2\n").0, 3);
        assert!(complain("\nroot = \"/\"\n").1.contains("outside of a table"));
        assert!(complain("[serve]\n[serve.limits]\nx = 1\n").1.contains("is a table"));
        assert!(complain("[serve]\nroot = [[1]]\n").1.contains("neither a text nor a number"));
    }
}
