//! The list filter of Secret Manager, as far as clients use it: conditions joined by `AND`.
//!
//! <https://cloud.google.com/secret-manager/docs/filtering>

use serde_json::Value;

use super::super::failure::Failure;

/// A filter: every condition must hold.
#[derive(Debug)]
pub(super) struct Filter(Vec<Condition>);

#[derive(Debug)]
struct Condition {
    field: String,
    exact: bool,
    value: String,
}

impl Filter {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let conditions = text
            .split(" AND ")
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| {
                let place = part.find(['=', ':']);
                let (field, exact, value) = match place {
                    Some(place) => (&part[..place], part[place..].starts_with('='), &part[place + 1..]),
                    // A bare word searches the name.
                    None => ("name", false, part),
                };
                if field.trim().contains([' ', '(', ')', '<', '>', '!']) {
                    return Err(Failure::invalid("The filter is not valid, or not one that this emulator knows."));
                }
                Ok(Condition {
                    field: field.trim().to_owned(),
                    exact,
                    value: value.trim().trim_matches('"').to_owned(),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self(conditions))
    }

    pub(super) fn takes(&self, item: &Value) -> bool {
        self.0.iter().all(|condition| condition.holds(item))
    }
}

impl Condition {
    fn holds(&self, item: &Value) -> bool {
        let mut value = item;
        for part in self.field.split('.') {
            match value.get(part) {
                Some(inner) => value = inner,
                None => return false,
            }
        }
        let Some(text) = value.as_str() else {
            // `labels:key` asks for the presence of a key.
            return !self.exact && value.get(&self.value).is_some();
        };
        if self.exact {
            text == self.value
        } else {
            self.value == "*" || text.to_lowercase().contains(&self.value.to_lowercase())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn takes(filter: &str) -> bool {
        let item = json!({"name": "projects/p/secrets/db-pass", "labels": {"app": "mmm"}, "state": "ENABLED"});
        Filter::parse(filter).expect("a filter").takes(&item)
    }

    #[test]
    fn conditions_are_about_names_labels_and_states() {
        assert!(takes("") && takes("name:DB") && takes("labels.app=mmm") && takes("labels:app"));
        assert!(takes("state:ENABLED AND labels.app:*"));
        assert!(!takes("name:web") && !takes("labels.app=mm") && !takes("labels.env=x"));
        assert!(!takes("name:db AND state=DISABLED"));
    }

    #[test]
    fn what_is_not_known_is_refused_rather_than_ignored() {
        assert!(Filter::parse("(name:a OR name:b)").is_err());
    }
}
