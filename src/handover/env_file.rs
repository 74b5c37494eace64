//! `.env` files, line by line: what is not to be changed keeps every byte. A line that two kinds of readers would
//! split differently is told as such, so that nothing is ever put inside what one of them takes for a value.

use zeroize::Zeroizing;

use super::dialect::Dialect;
use crate::{error::Error, names::shown};

/// One piece of the file. All pieces in a row are the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A comment, a blank line, or a name without a value.
    Other(&'a str),
    /// `NAME=value`, over one line or more.
    Entry(Entry<'a>),
    /// What readers would differ about, or make nothing of.
    Odd(&'a str, &'static str),
}

/// `NAME=value` as it stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Number of its first line, from 1.
    pub line: usize,
    /// Indentation and `export`.
    lead: &'a str,
    /// The name.
    pub name: &'a str,
    /// What stands between the name and the value: `=`, and blanks that some readers allow.
    equals: &'a str,
    /// The value with its quotes.
    raw: &'a str,
    /// What follows it: blanks, a comment.
    tail: &'a str,
    /// The line break, if there is one.
    end: &'a str,
}

impl Entry<'_> {
    /// The value, as python-dotenv reads it but for the expansion of variables.
    #[must_use]
    pub fn value(&self) -> Zeroizing<String> {
        let inner = |quote: char| self.raw.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        Zeroizing::new(if let Some(inner) = inner('\'') {
            unescape(inner, |c| matches!(c, '\\' | '\'').then_some(c))
        } else if let Some(inner) = inner('"') {
            unescape(inner, |c| match c {
                'n' => Some('\n'),
                'r' => Some('\r'),
                't' => Some('\t'),
                '\\' | '\'' | '"' => Some(c),
                _ => None,
            })
        } else if let Some(inner) = inner('`') {
            inner.to_owned()
        } else {
            self.raw.to_owned()
        })
    }

    /// The value without any reading of backslashes, as shells and npm's dotenv take single quotes.
    #[must_use]
    pub fn plain(&self) -> &str {
        let inner = |quote: char| self.raw.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        inner('\'').or_else(|| inner('"')).or_else(|| inner('`')).unwrap_or(self.raw)
    }

    /// True when readers put other things in its place: it is no literal value.
    #[must_use]
    pub fn expands(&self) -> bool {
        let dollar = |text: &str| {
            text.match_indices('$').any(|(at, _)| {
                text.get(at + 1..)
                    .and_then(|rest| rest.chars().next())
                    .is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '{' | '('))
            })
        };
        if self.raw.starts_with('\'') { self.raw.contains("${") } else { dollar(self.raw) }
    }
}

fn unescape(text: &str, known: impl Fn(char) -> Option<char>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.clone().next().and_then(&known) {
            Some(meant) => {
                out.push(meant);
                rest.next();
            }
            None => out.push(c),
        }
    }
    out
}

/// Splits a file into its pieces. Docker reads each line for itself and knows no quotes.
#[must_use]
pub fn pieces(text: &str, dialect: Dialect) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let length = first_line(rest).len();
        let (piece, taken) = piece(rest, length, line, dialect);
        let (this, after) = rest.split_at_checked(taken).unwrap_or((rest, ""));
        line += this.matches('\n').count();
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// The first line with its break.
fn first_line(text: &str) -> &str {
    text.find('\n').and_then(|at| text.get(..=at)).unwrap_or(text)
}

fn without_break(line: &str) -> (&str, &str) {
    let bare = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    (bare, line.get(bare.len()..).unwrap_or_default())
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// The piece at the start of `text`, whose first line has `length` bytes, and how many bytes it takes.
fn piece(text: &str, length: usize, number: usize, dialect: Dialect) -> (Piece<'_>, usize) {
    let line = text.get(..length).unwrap_or(text);
    let (bare, _) = without_break(line);
    let inner = bare.trim_start_matches(is_blank);
    if inner.is_empty() || inner.starts_with('#') {
        // What is no blank to a shell but to others (a form feed, say) makes the line odd.
        return (Piece::Other(line), length);
    }
    let mut after = inner;
    if dialect != Dialect::Docker {
        while let Some(more) = after.strip_prefix("export").filter(|more| more.starts_with(is_blank)) {
            after = more.trim_start_matches(is_blank);
        }
    }
    let lead = bare.get(..bare.len() - after.len()).unwrap_or_default();
    let name = after.get(..after.find(|c| !is_name(c)).unwrap_or(after.len())).unwrap_or_default();
    let behind = after.get(name.len()..).unwrap_or_default();
    if name.is_empty() {
        return (Piece::Odd(line, "is no NAME=value, comment or blank line"), length);
    }
    if behind.trim_matches(is_blank).is_empty() || behind.trim_start_matches(is_blank).starts_with('#') {
        return (Piece::Other(line), length);
    }
    let before = behind.trim_start_matches(is_blank);
    let Some(value) = before.strip_prefix('=') else {
        return (Piece::Odd(line, "is no NAME=value, comment or blank line"), length);
    };
    if dialect == Dialect::Docker {
        let entry = entry(text, number, lead, name, value, Ok((bare.len(), bare.len())));
        return (entry.unwrap_or_else(|why| Piece::Odd(line, why)), length);
    }
    let mut from = value.trim_start_matches(is_blank);
    if from.is_empty() || (from.starts_with('#') && from.len() < value.len()) {
        // No value: the blank keeps the comment apart.
        from = value;
    }
    let at = bare.len() - from.len();
    let ends = match (dialect, from.chars().next()) {
        (Dialect::Shell, _) => shell_word(text, at, None),
        (_, Some(quote @ ('\'' | '"' | '`'))) => quoted(text, at, quote, dialect == Dialect::Posix),
        (Dialect::Posix, _) => shell_word(text, at, Some(bare.len())),
        _ => Ok(unquoted(bare, at)),
    };
    match entry(text, number, lead, name, from, ends) {
        Ok(Piece::Entry(entry)) => {
            let taken = [entry.lead, entry.name, entry.equals, entry.raw, entry.tail, entry.end];
            (Piece::Entry(entry), taken.iter().map(|part| part.len()).sum())
        }
        Ok(other) => (other, length),
        Err(why) => (Piece::Odd(line, why), length),
    }
}

/// An entry whose value begins with `from` and ends where `ends` says: behind the value, behind the line.
fn entry<'a>(
    text: &'a str,
    line: usize,
    lead: &'a str,
    name: &'a str,
    from: &'a str,
    ends: Result<(usize, usize), &'static str>,
) -> Result<Piece<'a>, &'static str> {
    let (value_end, line_end) = ends?;
    let first = without_break(first_line(text)).0;
    let value_start = first.len() - from.len();
    let (_, end) = without_break(first_line(text.get(line_end..).unwrap_or_default()));
    let part = |from: usize, to: usize| text.get(from..to).ok_or("cannot be split");
    Ok(Piece::Entry(Entry {
        line,
        lead,
        name,
        equals: part(lead.len() + name.len(), value_start)?,
        raw: part(value_start, value_end)?,
        tail: part(value_end, line_end)?,
        end,
    }))
}

/// Where a value in quotes ends for dotenv readers. They must agree on it, and with shells if those read, too.
fn quoted(text: &str, at: usize, quote: char, shells: bool) -> Result<(usize, usize), &'static str> {
    const OPEN: &str = "begins a quote that does not end";
    let body = text.get(at + 1..).ok_or(OPEN)?;
    let (mut after_backslash, mut escaped) = (false, false);
    let mut ends = [None; 3];
    for (offset, c) in body.char_indices() {
        if c == quote {
            // To npm's dotenv any backslash before a quote keeps it open, to python-dotenv one that is not itself
            // escaped does, to a shell neither does in single quotes.
            let closes = [!after_backslash, !escaped, !escaped || quote == '\'' || !shells];
            for (end, closes) in ends.iter_mut().zip(closes) {
                if closes && end.is_none() {
                    *end = Some(offset);
                }
            }
            if !shells {
                ends[2] = ends[1];
            }
            if ends.iter().all(Option::is_some) {
                break;
            }
        }
        escaped = c == '\\' && !escaped;
        after_backslash = c == '\\';
    }
    let [one, two, three] = ends;
    if one.is_none() && two.is_none() && three.is_none() {
        return Err(OPEN);
    }
    let Some(end) = one.filter(|_| one == two && two == three) else {
        return Err("has a quoted value whose end readers see in different places");
    };
    let value_end = at + 1 + end + 1;
    let tail = without_break(first_line(text.get(value_end..).unwrap_or_default())).0;
    let comment = tail.trim_start_matches(is_blank);
    if comment.is_empty() || (comment.starts_with('#') && tail.starts_with(is_blank)) {
        Ok((value_end, value_end + tail.len()))
    } else {
        Err("goes on behind a closing quote")
    }
}

/// Where a value without quotes ends for dotenv readers: with its line, or before a comment.
fn unquoted(bare: &str, at: usize) -> (usize, usize) {
    let value = bare.get(at..).unwrap_or_default();
    let comment = value
        .match_indices('#')
        .map(|(offset, _)| offset)
        .find(|offset| bare.get(..at + offset).is_some_and(|before| before.ends_with(is_blank)));
    let text = value.get(..comment.unwrap_or(value.len())).unwrap_or(value);
    (at + text.trim_end_matches(is_blank).len(), bare.len())
}

/// Where a value ends for a shell, quotes in its middle included: at the end of a line, or before a comment.
/// With `limit` that must be the end of its first line.
fn shell_word(text: &str, at: usize, limit: Option<usize>) -> Result<(usize, usize), &'static str> {
    let value = text.get(at..limit.unwrap_or(text.len())).unwrap_or_default();
    let mut last = text.get(..at).and_then(|before| before.chars().next_back());
    let mut open: Option<char> = None;
    let mut escaped = false;
    let (mut value_end, mut line_end) = (None, value.len());
    let (mut brackets, mut counts) = (0_i32, value.starts_with('('));
    for (offset, c) in value.char_indices() {
        if value_end.is_some() && c != '\n' {
            continue;
        }
        if !escaped && open != Some('\'') {
            counts |= c == '(' && last == Some('$');
            brackets += i32::from(c == '(') - i32::from(c == ')');
        }
        if escaped {
            escaped = false;
        } else {
            match (open, c) {
                (None, '\n') => {
                    line_end = offset;
                    break;
                }
                (None, '#') if last.is_some_and(is_blank) => value_end = Some(offset),
                (Some('\''), '\'') => open = None,
                (Some('\''), _) => {}
                (_, '\\') => escaped = true,
                (None, '\'' | '"' | '`') => open = Some(c),
                (Some(quote), c) if quote == c => open = None,
                _ => {}
            }
        }
        last = Some(c);
    }
    let word = value.get(..value_end.unwrap_or(line_end)).unwrap_or(value);
    if escaped {
        return Err("ends in a backslash");
    }
    if open.is_some() {
        return Err("holds a quote that does not end");
    }
    if counts && brackets != 0 {
        return Err("holds a bracket that does not end");
    }
    Ok((at + word.trim_end_matches(is_blank).len(), at + line_end))
}

/// A name in the file and the value it is to get.
pub struct Assignment<'a> {
    /// The name.
    pub name: &'a str,
    /// The value.
    pub value: &'a str,
}

/// A file with its new values.
#[derive(Debug)]
pub struct Merged {
    /// The new text.
    pub text: Zeroizing<String>,
    /// Names that were not there.
    pub added: Vec<String>,
    /// Names whose line was replaced.
    pub changed: Vec<String>,
}

/// Puts values into a file. `placed` are names that `file` has and that get this value; `rest` stands at the
/// end, where it is not placed already.
///
/// # Errors
/// `file_refused` for a file that readers differ about, `not_carried` with the names that cannot be written.
pub fn merge(
    file: &str,
    placed: &[Assignment<'_>],
    rest: &[Assignment<'_>],
    dialect: Dialect,
) -> Result<Merged, Error> {
    let refused = |fault: String| Error::FileRefused { fault: fault.into() };
    if file.starts_with('\u{feff}') {
        return Err(refused(
            "it begins with a byte order mark, which shells take for a part of a name".into(),
        ));
    }
    let pieces = pieces(file, dialect);
    check(&pieces).map_err(|(line, why)| refused(format!("line {line} {why}")))?;
    let returns = pieces.iter().any(|piece| match piece {
        Piece::Other(line) | Piece::Odd(line, _) => line.contains('\r'),
        Piece::Entry(entry) => entry.end.contains('\r') || entry.tail.contains('\r'),
    });
    if returns {
        return Err(refused(
            "its lines end in carriage returns, which shells take for a part of the value".into(),
        ));
    }

    let mut faults = Vec::new();
    let mut line_of = |name: &str, value: &str| {
        let written = dialect.check_name(name).and_then(|()| dialect.quote(value));
        written.unwrap_or_else(|why| {
            let fault = format!("{} ({why})", shown(name, 64));
            if !faults.contains(&fault) {
                faults.push(fault);
            }
            String::new()
        })
    };
    let mut text = Zeroizing::new(String::with_capacity(file.len() + 1024));
    let (mut added, mut changed) = (Vec::new(), Vec::<String>::new());
    for piece in &pieces {
        match piece {
            Piece::Other(line) | Piece::Odd(line, _) => text.push_str(line),
            Piece::Entry(entry) => {
                let wanted = placed.iter().find(|assignment| assignment.name == entry.name);
                let end = [entry.lead, entry.name, entry.equals, entry.raw, entry.tail, entry.end];
                match wanted {
                    None => end.iter().for_each(|part| text.push_str(part)),
                    Some(wanted) => {
                        let value = Zeroizing::new(line_of(wanted.name, wanted.value));
                        // Blanks around the equals sign are no assignment to a shell.
                        for part in [entry.lead, entry.name, "=", &value, entry.tail, entry.end] {
                            text.push_str(part);
                        }
                        if !changed.iter().any(|name| name == wanted.name) {
                            changed.push(wanted.name.to_owned());
                        }
                    }
                }
            }
        }
    }
    for assignment in rest.iter().filter(|one| !changed.iter().any(|name| name == one.name)) {
        let value = Zeroizing::new(line_of(assignment.name, assignment.value));
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        for part in [assignment.name, "=", &value, "\n"] {
            text.push_str(part);
        }
        added.push(assignment.name.to_owned());
    }
    if faults.is_empty() {
        Ok(Merged { text, added, changed })
    } else {
        Err(Error::NotCarried { keys: faults.join(", ") })
    }
}

/// The first odd line and what is odd about it.
///
/// # Errors
/// Its number and fault.
fn check(pieces: &[Piece<'_>]) -> Result<(), (usize, &'static str)> {
    let mut line = 1;
    for piece in pieces {
        match piece {
            Piece::Odd(_, why) => return Err((line, why)),
            Piece::Other(text) => line += text.matches('\n').count(),
            Piece::Entry(entry) => {
                line += entry.raw.matches('\n').count() + entry.end.matches('\n').count();
            }
        }
    }
    Ok(())
}

/// The entries of a file, and the numbers of lines that are odd.
#[must_use]
pub fn entries(text: &str) -> (Vec<Entry<'_>>, Vec<usize>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut odd = Vec::new();
    let mut line = 1;
    let mut entries = Vec::new();
    // As dotenv readers do, who are the ones that most of these files are for.
    for piece in pieces(text, Dialect::Python) {
        match piece {
            Piece::Entry(entry) => {
                line = entry.line + entry.raw.matches('\n').count() + 1;
                entries.push(entry);
            }
            Piece::Odd(..) => {
                odd.push(line);
                line += 1;
            }
            Piece::Other(_) => line += 1,
        }
    }
    (entries, odd)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put(file: &str, values: &[(&str, &str)], dialect: Dialect) -> Result<Merged, Error> {
        let all = || values.iter().map(|(name, value)| Assignment { name, value }).collect::<Vec<_>>();
        merge(file, &all(), &all(), dialect)
    }

    #[test]
    fn comments_order_and_foreign_entries_stay_and_known_ones_change_in_place() {
        let file = "# settings\n\nexport DB='old' # the main one\nPORT=5432\n  API = \"two\nlines\"\nBARE\nDB=again\nLAST=x";
        let merged =
            put(file, &[("DB", "new value"), ("API", "$(id)"), ("NEW", "it's")], Dialect::Posix).unwrap();
        assert_eq!(
            merged.text.as_str(),
            "# settings\n\nexport DB='new value' # the main one\nPORT=5432\n  API='$(id)'\nBARE\nDB='new value'\nLAST=x\nNEW=\"it's\"\n"
        );
        assert_eq!((merged.changed, merged.added), (vec!["DB".into(), "API".into()], vec!["NEW".into()]));
    }

    #[test]
    fn a_name_inside_a_value_or_a_comment_is_none() {
        let file = "CERT='-----\nDB=fake\n-----'\n# DB=old\nX=\"a\\\"\nDB=fake\"\n";
        let merged = put(file, &[("DB", "v")], Dialect::Posix).unwrap();
        assert_eq!(merged.text.as_str(), format!("{file}DB='v'\n"));
    }

    #[test]
    fn a_file_that_readers_would_split_differently_is_refused_by_line() {
        for (file, line) in [
            ("A=1\nB='x\\'y'\n", 2),
            ("A='open\nB=1\n", 1),
            ("A=it's\nB=won't\n", 1),
            ("A='x\\\\'\nB='y'\n", 1),
            ("A=1\\\nB=2\n", 1),
            ("A=$(cat\nB=2\n)\n", 1),
            ("A='a'b\n", 1),
            ("A='a'#c\n", 1),
            ("A: 1\n", 1),
            ("'A'=1\n", 1),
            (". ./other\n", 1),
            ("x=1\nif true; then\nA=1\nfi\n", 2),
            ("A=(\nB=1\n)\n", 1),
        ] {
            let error = put(file, &[("B", "v")], Dialect::Posix).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line} ")), "{file:?}: {error}");
        }
        for file in ["\u{feff}A=1\n", "A=1\r\n"] {
            assert_eq!(put(file, &[("B", "v")], Dialect::Posix).unwrap_err().code(), "file_refused");
        }
    }

    #[test]
    fn what_cannot_be_written_is_named_and_its_value_is_not() {
        let error = put("A=1\n", &[("A", "canary\\"), ("PATH", "canary"), ("OK", "canary")], Dialect::Posix)
            .unwrap_err();
        assert_eq!(error.code(), "not_carried");
        let text = error.to_string();
        assert!(text.contains("A (a backslash at the end), PATH (a name that steers programs)"), "{text}");
        assert!(!text.contains("canary") && !text.contains("OK"), "{text}");
    }

    #[test]
    fn docker_reads_each_line_for_itself() {
        let merged = put("A='1\nB=it's\nC=x # y\n", &[("C", " \"z\" ")], Dialect::Docker).unwrap();
        assert_eq!(merged.text.as_str(), "A='1\nB=it's\nC= \"z\" \n");
    }

    #[test]
    fn values_are_read_as_dotenv_reads_them() {
        let text =
            "A=plain # c\nB='a\\'\nC=\"x\\ny\"\nexport D=`t`\nE=\nF= \nG=#x\nH='${X}'\nI=\"$X\"\nJ=a$1\n";
        // B's quote is kept open by the backslash for one kind of readers.
        let text = text.replace("B='a\\'", "B='a'");
        let (entries, odd) = entries(&text);
        assert!(odd.is_empty(), "{odd:?}");
        let values: Vec<_> = entries.iter().map(|e| (e.name, e.value().to_string(), e.expands())).collect();
        let wanted = [
            ("A", "plain", false),
            ("B", "a", false),
            ("C", "x\ny", false),
            ("D", "t", false),
            ("E", "", false),
            ("F", "", false),
            ("G", "#x", false),
            ("H", "${X}", true),
            ("I", "$X", true),
            ("J", "a$1", false),
        ];
        assert_eq!(values, wanted.map(|(name, value, expands)| (name, value.to_owned(), expands)));
    }

    proptest! {
        #[test]
        fn the_pieces_of_any_text_are_the_text(text in "[ -~\n\t'\"`\\\\#=$(){}éA-C]{0,80}", docker: bool) {
            let dialect = if docker { Dialect::Docker } else { Dialect::Posix };
            let joined: String = pieces(&text, dialect).iter().map(|piece| match piece {
                Piece::Other(line) | Piece::Odd(line, _) => (*line).to_owned(),
                Piece::Entry(e) => [e.lead, e.name, e.equals, e.raw, e.tail, e.end].concat(),
            }).collect();
            prop_assert_eq!(joined, text);
        }

        #[test]
        fn what_is_written_is_read_back_as_it_was_and_nothing_else_changes(
            file in "([A-D]=('[a-z\n#]{0,8}'|\"[a-z\n# ]{0,8}\"|[a-z#]{0,6})( #[ -~]{0,6})?\n|#[ -~]{0,9}\n|\n){0,6}",
            value in "[ -~\n\té\u{2028}]{0,20}",
        ) {
            let names = |name: &str| matches!(name, "B" | "Z");
            for dialect in [Dialect::Posix, Dialect::Shell, Dialect::Python, Dialect::Node] {
                let Ok(merged) = put(&file, &[("B", &value), ("Z", &value)], dialect) else { continue };
                let foreign = |text| pieces(text, dialect).into_iter().filter_map(|piece| match piece {
                    Piece::Entry(e) if names(e.name) => None,
                    Piece::Entry(e) => Some([e.lead, e.name, e.equals, e.raw, e.tail, e.end].concat()),
                    Piece::Other(line) | Piece::Odd(line, _) => Some(line.to_owned()),
                }).collect::<String>();
                // The last line may have got its break.
                let (before, after) = (foreign(&file), foreign(&merged.text));
                prop_assert_eq!(before.trim_end(), after.trim_end());
                if dialect == Dialect::Posix {
                    let (after, odd) = entries(&merged.text);
                    prop_assert!(odd.is_empty(), "{:?}", merged.text);
                    for entry in after.iter().filter(|entry| names(entry.name)) {
                        let read = entry.value();
                        prop_assert_eq!(read.as_str(), value.as_str());
                        prop_assert_eq!(entry.plain(), value.as_str());
                    }
                }
                // Putting the same values again changes nothing.
                let again = put(&merged.text, &[("B", &value), ("Z", &value)], dialect).unwrap();
                prop_assert_eq!(again.text.as_str(), merged.text.as_str());
            }
        }
    }
}
