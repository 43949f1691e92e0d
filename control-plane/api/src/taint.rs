//! Taints of nodes and tolerations of pods (`k8s.io/component-helpers/scheduling/corev1`).

use serde::Deserialize;

/// `v1.Taint`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value, mostly empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
    /// Since when it has been there.
    pub time_added: Option<jiff::Timestamp>,
}

/// `v1.Toleration`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Toleration {
    /// The key it tolerates; empty with `Exists` for all.
    pub key: String,
    /// `Equal` (also empty) or `Exists`.
    pub operator: String,
    /// The value, for `Equal`.
    pub value: String,
    /// The effect; empty for all.
    pub effect: String,
    /// How long a `NoExecute` taint is tolerated; none for ever.
    pub toleration_seconds: Option<i64>,
}

impl Toleration {
    /// Whether it tolerates a taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        let exists = self.operator == "Exists";
        let key = (self.key.is_empty() && exists) || self.key == taint.key;
        let effect = self.effect.is_empty() || self.effect == taint.effect;
        key && effect && (exists || self.value == taint.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_values_and_effects_decide() {
        let taint =
            Taint { key: "k".into(), value: "v".into(), effect: "NoSchedule".into(), time_added: None };
        let row = |key: &str, operator: &str, value: &str, effect: &str| Toleration {
            key: key.into(),
            operator: operator.into(),
            value: value.into(),
            effect: effect.into(),
            toleration_seconds: None,
        };
        for (toleration, tolerated) in [
            (row("k", "Equal", "v", "NoSchedule"), true),
            (row("k", "", "v", ""), true),
            (row("k", "Exists", "", ""), true),
            (row("", "Exists", "", ""), true),
            (row("", "Exists", "", "NoExecute"), false),
            (row("k", "Equal", "w", ""), false),
            (row("x", "Exists", "", ""), false),
            (row("", "Equal", "v", ""), false),
        ] {
            assert_eq!(toleration.tolerates(&taint), tolerated, "{toleration:?}");
        }
    }
}
