"""A walk through the API by the Python client, as its users take it. Prints `well` at the end."""

import threading

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException

config.load_kube_config()
core, apps, batch = client.CoreV1Api(), client.AppsV1Api(), client.BatchV1Api()
NAMESPACE = "walk"


def refused(code, call, *arguments, **options):
    """The error that a call must end with."""
    try:
        call(*arguments, **options)
    except ApiException as error:
        assert error.status == code, error
        return error
    raise AssertionError(f"{call.__name__} was not refused")


assert client.VersionApi().get_code().major == "1"
core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
refused(409, core.create_namespace, client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))

# Typed objects: create, read, patch, replace with a stale version, delete.
made = core.create_namespaced_config_map(
    NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name="walk-"), data={"a": "1"})
)
name = made.metadata.name
assert name.startswith("walk-") and made.metadata.uid
patched = core.patch_namespaced_config_map(name, NAMESPACE, {"data": {"b": "2"}})
assert patched.data == {"a": "1", "b": "2"}
made.data = {"c": "3"}
assert "the object has been modified" in refused(409, core.replace_namespaced_config_map, name, NAMESPACE, made).body

# A watch tells of what happens while it runs.
events = []
listed = core.list_namespaced_config_map(NAMESPACE)


def follow():
    for event in watch.Watch().stream(
        core.list_namespaced_config_map,
        NAMESPACE,
        resource_version=listed.metadata.resource_version,
        timeout_seconds=20,
    ):
        events.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            return


follower = threading.Thread(target=follow)
follower.start()
core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="seen")))
core.patch_namespaced_config_map("seen", NAMESPACE, {"data": {"k": "v"}})
core.delete_namespaced_config_map("seen", NAMESPACE)
follower.join()
assert events == [("ADDED", "seen"), ("MODIFIED", "seen"), ("DELETED", "seen")], events

# A deployment makes its replica set; validation answers with causes.
labels = {"app": "walk"}
template = client.V1PodTemplateSpec(
    metadata=client.V1ObjectMeta(labels=labels),
    spec=client.V1PodSpec(containers=[client.V1Container(name="app", image="example.invalid/app:1")]),
)
deployment = client.V1Deployment(
    metadata=client.V1ObjectMeta(name="web"),
    spec=client.V1DeploymentSpec(
        replicas=2, selector=client.V1LabelSelector(match_labels=labels), template=template
    ),
)
assert apps.create_namespaced_deployment(NAMESPACE, deployment).spec.strategy.type == "RollingUpdate"
apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 3}})
assert apps.read_namespaced_deployment_scale("web", NAMESPACE).spec.replicas == 3
deployment.spec.selector.match_labels = {"app": "other"}
assert "selector" in refused(422, apps.create_namespaced_deployment, NAMESPACE, deployment).body

# Paging and selectors.
for number in range(25):
    core.create_namespaced_secret(
        NAMESPACE,
        client.V1Secret(
            metadata=client.V1ObjectMeta(name=f"page-{number:02}", labels={"parity": str(number % 2)}),
            string_data={"n": str(number)},
        ),
    )
names, token = [], None
while True:
    page = core.list_namespaced_secret(NAMESPACE, limit=10, _continue=token)
    names += [item.metadata.name for item in page.items]
    token = page.metadata._continue
    if not token:
        break
assert names == [f"page-{number:02}" for number in range(25)], names
assert len(core.list_namespaced_secret(NAMESPACE, label_selector="parity=1").items) == 12
assert len(core.list_namespaced_secret(NAMESPACE, field_selector="metadata.name=page-07").items) == 1

# A kind of one's own by the dynamic client, which reads discovery.
schema = client.V1JSONSchemaProps(
    type="object",
    properties={
        "spec": client.V1JSONSchemaProps(
            type="object",
            required=["size"],
            properties={"size": client.V1JSONSchemaProps(type="integer", minimum=1)},
        )
    },
)
client.ApiextensionsV1Api().create_custom_resource_definition(
    client.V1CustomResourceDefinition(
        metadata=client.V1ObjectMeta(name="boxes.walk.example.com"),
        spec=client.V1CustomResourceDefinitionSpec(
            group="walk.example.com",
            scope="Namespaced",
            names=client.V1CustomResourceDefinitionNames(plural="boxes", kind="Box"),
            versions=[
                client.V1CustomResourceDefinitionVersion(
                    name="v1",
                    served=True,
                    storage=True,
                    schema=client.V1CustomResourceValidation(open_apiv3_schema=schema),
                )
            ],
        ),
    )
)
for event in watch.Watch().stream(
    client.ApiextensionsV1Api().list_custom_resource_definition, timeout_seconds=30
):
    conditions = (event["object"].status and event["object"].status.conditions) or []
    if any(condition.type == "Established" and condition.status == "True" for condition in conditions):
        break
else:
    raise AssertionError("the kind was not established")
boxes = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="walk.example.com/v1", kind="Box")
box = {"apiVersion": "walk.example.com/v1", "kind": "Box", "metadata": {"name": "b"}, "spec": {"size": 3}}
assert boxes.create(body=box, namespace=NAMESPACE).spec.size == 3
box["spec"]["size"] = 0
applied = refused(
    422, boxes.server_side_apply, body=box, name="b", namespace=NAMESPACE, field_manager="walk", force_conflicts=True
)
assert "should be greater than or equal to 1" in str(applied.body), applied.body

# From before it is marked on: it may be gone when the watch begins.
before = core.list_namespace().metadata.resource_version
core.delete_namespace(NAMESPACE)
for event in watch.Watch().stream(core.list_namespace, resource_version=before, timeout_seconds=60):
    if event["type"] == "DELETED" and event["object"].metadata.name == NAMESPACE:
        break
else:
    raise AssertionError("the namespace did not go")
print("well")
