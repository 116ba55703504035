//! The description of the REST API (OpenAPI 3.1), made of the endpoints that the router is built of.

use crate::endpoint::{Answer, Body, Endpoint, Least, Method, Shape};
use crate::error::ErrorBody;
use std::collections::BTreeMap;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    Components, Content, InfoBuilder, OpenApi, Paths, RefOr, Required, Response, ResponseBuilder,
    SecurityRequirement,
};

const JSON: &str = "application/json";
const TOKEN: &str = "token";
const ABOUT: &str = "Everything under /v1 needs `Authorization: Bearer TOKEN` of somebody who has \
    the role that the operation names. Times are milliseconds \
    since 1970 UTC, sizes are bytes, rates are bytes a second. An answer other than 2xx carries an \
    ErrorBody: what happened, and what to do next.";

/// The description of an API that has these endpoints.
pub fn document<'a>(endpoints: impl IntoIterator<Item = &'a Endpoint>, version: &str) -> OpenApi {
    let mut paths = Paths::new();
    let mut schemas: BTreeMap<String, RefOr<Schema>> =
        Shape::of::<ErrorBody>().components().into_iter().collect();
    for endpoint in endpoints {
        paths.add_path_operation(endpoint.path, vec![method(endpoint.method)], operation(endpoint));
        schemas.extend(shapes(endpoint).flat_map(|shape| shape.components()));
    }
    let mut components = Components::new();
    components.schemas = schemas.into_iter().collect();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    let info = InfoBuilder::new().title("Headwater").version(version).description(Some(ABOUT)).build();
    let mut document = OpenApi::new(info, paths);
    document.components = Some(components);
    document.security = Some(vec![SecurityRequirement::new(TOKEN, Vec::<String>::new())]);
    document
}

fn method(method: Method) -> HttpMethod {
    match method {
        Method::Get => HttpMethod::Get,
        Method::Post => HttpMethod::Post,
        Method::Put => HttpMethod::Put,
        Method::Patch => HttpMethod::Patch,
        Method::Delete => HttpMethod::Delete,
    }
}

/// What stands among the components because of an endpoint; a query's fields stand inline.
fn shapes(endpoint: &Endpoint) -> impl Iterator<Item = Shape> {
    let body = match endpoint.body {
        Some(Body::Json(shape)) => Some(shape),
        Some(Body::Bytes(_)) | None => None,
    };
    let answer = match endpoint.answer {
        Answer::Json(_, shape) | Answer::List(shape) | Answer::Events(shape) => Some(shape),
        Answer::Empty(_) | Answer::Bytes(_) => None,
    };
    body.into_iter().chain(answer)
}

fn operation(endpoint: &Endpoint) -> Operation {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(operation_id(endpoint)))
        .tag(tag(endpoint.path))
        .summary(Some(endpoint.about))
        .request_body(endpoint.body.map(request_body));
    operation = operation.description(Some(description(endpoint)));
    if endpoint.least == Some(Least::Anyone) {
        operation = operation.securities(Some(Vec::<SecurityRequirement>::new()));
    }
    for name in path_parameters(endpoint.path) {
        let schema = ObjectBuilder::new().schema_type(Type::String);
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path);
        operation = operation.parameter(parameter.required(Required::True).schema(Some(schema)));
    }
    for parameter in endpoint.query.iter().flat_map(query_parameters) {
        operation = operation.parameter(parameter);
    }
    let (status, success) = success(&endpoint.answer);
    operation.response(status.to_string(), success).response("default", failure()).build()
}

fn description(endpoint: &Endpoint) -> String {
    let needs = format!("Needs `{}`.", endpoint.least.unwrap_or(Least::FarmAdmin).id());
    match endpoint.action {
        Some(action) => format!("{needs} Recorded in the audit as `{action}`."),
        None => needs,
    }
}

/// `get /v1/vdisks/{name}` becomes `get_vdisks_name`: stable, and a name in any language.
fn operation_id(endpoint: &Endpoint) -> String {
    let words = endpoint.path.trim_start_matches("/v1/").split(['/', '{', '}', '.', '-']);
    let method = format!("{:?}", endpoint.method).to_lowercase();
    std::iter::once(method.as_str())
        .chain(words.filter(|word| !word.is_empty()))
        .collect::<Vec<_>>()
        .join("_")
}

fn tag(path: &str) -> &str {
    path.trim_start_matches("/v1").trim_start_matches('/').split('/').next().unwrap_or_default()
}

/// The names between the braces of a path.
pub fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn query_parameters(shape: &Shape) -> Vec<ParameterBuilder> {
    let RefOr::T(Schema::Object(object)) = shape.inline() else {
        panic!("a query is an object: {shape:?}");
    };
    let parameter = |(name, schema): (String, RefOr<Schema>)| {
        let required = if object.required.contains(&name) { Required::True } else { Required::False };
        let about = match &schema {
            RefOr::T(Schema::Object(field)) => field.description.clone(),
            _ => None,
        };
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query);
        parameter.required(required).description(about).schema(Some(schema))
    };
    object.properties.clone().into_iter().map(parameter).collect()
}

fn request_body(body: Body) -> RequestBody {
    let builder = RequestBodyBuilder::new().required(Some(Required::True));
    match body {
        Body::Json(shape) => builder.content(JSON, Content::new(Some(shape.reference()))),
        Body::Bytes(about) => builder.description(Some(about)).content("application/octet-stream", bytes()),
    }
    .build()
}

fn bytes() -> Content {
    Content::new(None::<RefOr<Schema>>)
}

fn success(answer: &Answer) -> (u16, Response) {
    let response = ResponseBuilder::new();
    match answer {
        Answer::Empty(status) => (*status, response.description("Done").build()),
        Answer::Json(status, shape) => {
            let content = Content::new(Some(shape.reference()));
            (*status, response.description(about(*status)).content(JSON, content).build())
        }
        Answer::List(shape) => {
            (200, response.description("The list").content(JSON, Content::new(Some(shape.list()))).build())
        }
        Answer::Events(shape) => {
            let content = Content::new(Some(shape.reference()));
            let about = "Server-sent events; the data of each is one such object";
            (200, response.description(about).content("text/event-stream", content).build())
        }
        Answer::Bytes(media_type) => {
            (200, response.description("The bytes").content(*media_type, bytes()).build())
        }
    }
}

fn about(status: u16) -> &'static str {
    match status {
        201 => "Made",
        202 => "Begun; the answer says where to follow it",
        _ => "Done",
    }
}

fn failure() -> Response {
    let content = Content::new(Some(Shape::of::<ErrorBody>().reference()));
    ResponseBuilder::new().description("Refused (4xx) or failed (5xx)").content(JSON, content).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceView, NewDevice, paths};

    #[test]
    fn an_endpoint_is_described_with_all_that_it_refers_to() {
        let add = Endpoint::change(Method::Post, paths::DEVICES, "device.add", "Adds a device");
        let add = add.takes::<NewDevice>().answers::<DeviceView>(201);
        let show = Endpoint::get(paths::DEVICE, "Shows a device").answers::<DeviceView>(200);
        let json = serde_json::to_value(document([&add, &show], "1")).unwrap();
        assert_eq!(json["openapi"], "3.1.0");
        let add = &json["paths"]["/v1/devices"]["post"];
        assert_eq!(add["requestBody"]["content"][JSON]["schema"]["$ref"], "#/components/schemas/NewDevice");
        assert_eq!(add["operationId"], "post_devices");
        assert_eq!(json["paths"]["/v1/devices/{name}"]["get"]["parameters"][0]["name"], "name");
        for name in ["DeviceView", "NewDevice", "Name", "MacAddress", "ErrorBody"] {
            assert!(json["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
