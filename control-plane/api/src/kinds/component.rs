//! ComponentStatuses: how the parts of the control plane are. Nobody stores them.

use crate::resource::{Column, Strategy};
use crate::table::{self, column};
use crate::validation::At;
use serde_json::{Value, json};

/// `v1.ComponentStatus`.
#[derive(Debug, Default)]
pub struct ComponentStatus;

impl Strategy for ComponentStatus {
    fn columns(&self) -> Vec<Column> {
        vec![
            super::columns::name(),
            column("Status", "string", "Status of the component conditions"),
            column("Message", "string", "Message of the component conditions"),
            column("Error", "string", "Error of the component conditions"),
        ]
    }

    fn cells(&self, object: &Value, _now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let conditions = root.get("conditions");
        let healthy = conditions.items().find(|c| c.get("type").text() == "Healthy");
        let [status, message, error] = match healthy {
            None => ["Unknown", "", ""].map(str::to_owned),
            Some(condition) => {
                let good = condition.get("status").text() == "True";
                let text = |field: &'static str| condition.get(field).text().to_owned();
                [if good { "Healthy" } else { "Unhealthy" }.to_owned(), text("message"), text("error")]
            }
        };
        vec![table::name(object), status.into(), message.into(), error.into()]
    }
}

/// The object of a component: well, or why not.
pub fn component(name: &str, trouble: Option<&str>) -> Value {
    let mut condition = json!({"type": "Healthy", "status": "True", "message": "ok"});
    if let Some(why) = trouble {
        condition = json!({"type": "Healthy", "status": "False", "error": why});
    }
    json!({
        "apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name}, "conditions": [condition],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::now;

    #[test]
    fn a_component_is_shown() {
        let cells = |object: &Value| ComponentStatus.cells(object, now());
        assert_eq!(cells(&component("etcd-0", None)), ["etcd-0", "Healthy", "ok", ""].map(Value::from));
        let ill = component("scheduler", Some("it does not run"));
        assert_eq!(cells(&ill), ["scheduler", "Unhealthy", "", "it does not run"].map(Value::from));
        assert_eq!(cells(&json!({"metadata": {"name": "a"}}))[1], "Unknown");
    }
}
