//! The content of a new file: names and values as lines or JSON.

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{FileName, NewFile};
use crate::error::Error;

/// Fills a new file with bytes as they are, or with names and base64 where its ending says that it holds names and
/// values; gives its whole path.
///
/// # Errors
/// `file_refused`.
pub fn fill(file: NewFile, name: &FileName, bytes: &[u8], named: &[(&str, &str)]) -> Result<String, Error> {
    let has_names = name.last().starts_with(".env") || matches!(name.ending().as_str(), "env" | "json");
    let content = if has_names { entries(name, named)? } else { Zeroizing::new(bytes.to_vec()) };
    Ok(file.fill(&content)?.display().to_string())
}

/// Names and values as JSON for `.json`, else as `NAME='value'` lines that shells and dotenv readers
/// read back as the same value.
///
/// # Errors
/// `file_refused` for a value that lines cannot carry.
pub fn entries(name: &FileName, entries: &[(&str, &str)]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut out = Zeroizing::new(Vec::new());
    if name.ending() == "json" {
        let map: Map<String, Value> =
            entries.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
        serde_json::to_writer_pretty(&mut *out, &map)
            .map_err(|_| Error::Internal { what: "a file does not serialize" })?;
        out.push(b'\n');
        return Ok(out);
    }
    for (key, value) in entries {
        if value.contains(['\'', '\\', '\n', '\r', '\0']) {
            return Err(Error::FileRefused {
                fault: format!("the value of {key} holds a quote, backslash or line break, which lines cannot carry alike for every reader; name a .json file").into(),
            });
        }
        out.extend_from_slice(format!("{key}='{value}'\n").as_bytes());
    }
    Ok(out)
}
