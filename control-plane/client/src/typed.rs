//! Typed access for those who think in structures: k8s-openapi's, or any slim projection of an object.

use crate::{Client, Collection, ListOptions, Target, WriteOptions};
use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use skep_api::{Object, Status};
use std::sync::Arc;

/// What every [`Client`] can do with typed structures.
#[async_trait]
pub trait ClientExt: Client {
    /// Reads an object as `T`.
    async fn get_as<T: DeserializeOwned>(&self, target: &Target) -> Result<T, Status> {
        decode(&*self.get(target).await?)
    }

    /// Reads an object that may not be there.
    async fn find(&self, target: &Target) -> Result<Option<Arc<Object>>, Status> {
        match self.get(target).await {
            Ok(object) => Ok(Some(object)),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Lists a collection as `T`s.
    async fn list_as<T: DeserializeOwned>(
        &self,
        collection: &Collection,
        options: &ListOptions,
    ) -> Result<Vec<T>, Status> {
        self.list(collection, options).await?.items.iter().map(|o| decode(o)).collect()
    }

    /// Creates an object from a structure.
    async fn create_from<T: Serialize + Sync>(
        &self,
        collection: &Collection,
        body: &T,
    ) -> Result<Arc<Object>, Status> {
        self.create(collection, encode(body)?, &WriteOptions::default()).await
    }

    /// Replaces an object, or its subresource, by a structure.
    async fn update_from<T: Serialize + Sync>(
        &self,
        target: &Target,
        body: &T,
    ) -> Result<Arc<Object>, Status> {
        self.update(target, encode(body)?, &WriteOptions::default()).await
    }
}

impl<C: Client + ?Sized> ClientExt for C {}

/// An object as `T`; what does not fit is an internal error that names the object.
pub fn decode<T: DeserializeOwned>(object: &Object) -> Result<T, Status> {
    object.decode().map_err(|e| Status::internal(format!("{}: {e}", object.meta().key())))
}

/// A structure as a tree.
pub fn encode<T: Serialize>(body: &T) -> Result<Value, Status> {
    serde_json::to_value(body).map_err(Status::internal)
}
