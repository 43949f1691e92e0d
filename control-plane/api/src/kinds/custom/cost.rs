//! What rules may cost, as far as the schema around them tells (`apiextensions/validation/cel_validation.go`).

use crate::custom::rules::ESTIMATE_ALL;
use crate::custom::{Additional, Kind, Structural};
use crate::field::{FieldError, Path};

/// How often a value of a schema can stand in an object; none where nothing bounds it.
pub(super) type Cardinality = Option<u64>;

/// That of the parts of a schema that itself can stand so often.
pub(super) fn of_parts(schema: &Structural, own: Cardinality) -> Cardinality {
    let limit = |limit: Option<i64>| limit.map(|n| u64::try_from(n).unwrap_or(0));
    let factor = match schema.kind {
        Kind::Object => match schema.additional {
            Some(Additional::Schema(_) | Additional::Allowed(_)) => limit(schema.limits.max_properties),
            None => Some(1),
        },
        Kind::Array => limit(schema.limits.max_items),
        _ => Some(1),
    };
    own.zip(factor).map(|(own, factor)| own.saturating_mul(factor))
}

/// The costs of all rules of a schema together.
#[derive(Debug, Default)]
pub(super) struct Total {
    sum: u64,
    /// Those that make up most of it, the greatest first: at most four, each at least a hundredth of what is allowed.
    greatest: Vec<(Path, u64)>,
}

impl Total {
    /// Adds the cost of an expression.
    pub(super) fn add(&mut self, path: &Path, cost: u64) {
        self.sum = self.sum.saturating_add(cost);
        if cost >= ESTIMATE_ALL / 100 {
            self.greatest.push((path.clone(), cost));
            self.greatest.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            self.greatest.truncate(4);
        }
    }

    /// Errors where they are too great together.
    pub(super) fn errors(&self, schema: &Path) -> Vec<FieldError> {
        if self.sum <= ESTIMATE_ALL {
            return Vec::new();
        }
        let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        let each = self.greatest.iter().map(|(path, _)| FieldError::forbidden(path, why));
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        let all = FieldError::forbidden(schema, exceeds(what, self.sum, ESTIMATE_ALL));
        each.chain([all]).collect()
    }
}

/// How messages say that a cost is greater than a limit.
pub(super) fn exceeds(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        f if f > 100.0 => "more than 100x".to_owned(),
        // The factor would read as 1.0 otherwise.
        f if f < 1.5 => format!("{f:.6}x"),
        f => format!("{f:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_stand_as_often_as_limits_allow() {
        for (schema, own, parts) in [
            (json!({"type": "object"}), Some(2), Some(2)),
            (json!({"type": "array", "maxItems": 5}), Some(2), Some(10)),
            (json!({"type": "array"}), Some(2), None),
            (json!({"type": "object", "additionalProperties": {"type": "string"}}), Some(1), None),
            (
                json!({"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 3}),
                Some(1),
                Some(3),
            ),
            (json!({"type": "array", "maxItems": 5}), None, None),
            (json!({"type": "array", "maxItems": -1}), Some(1), Some(0)),
        ] {
            assert_eq!(of_parts(&Structural::parse(&schema).unwrap(), own), parts, "{schema}");
        }
    }

    #[test]
    fn the_greatest_are_named() {
        let mut total = Total::default();
        for (at, cost) in
            [10, 60_000_000, 2_000_000, 50_000_000, 3_000_000, 4_000_000].into_iter().enumerate()
        {
            total.add(&Path::new("x").index(at), cost);
        }
        let shown: Vec<String> = total.errors(&Path::new("s")).iter().map(|e| e.path.to_string()).collect();
        assert_eq!(shown, ["x[1]", "x[3]", "x[5]", "x[4]", "s"]);
        assert!(exceeds("a", 1_100, 1_000).starts_with("a exceeds budget by factor of 1.100000x (try"));
        assert!(exceeds("a", 2_000, 1_000).contains("2.0x"));
        assert!(exceeds("a", 200_000, 1_000).contains("more than 100x"));
    }
}
