//! What the embeddings alone are worth.

use anyhow::Result;
use serde::Serialize;

use super::part::Part;
