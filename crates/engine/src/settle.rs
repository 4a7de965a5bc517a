//! Putting a model's matrices in an order in which they are multiplied faster, after it was loaded.
//!
//! That is worth as long as many tokens take, so it is left to who keeps the model. The order in which products are added up is another one,
//! so the last bits of logits change with it.

use std::sync::Arc;
use std::thread;

use crate::model::Model;

impl Model {
    /// Puts all of them in order, on as many threads as the model has.
    pub fn settle(&self) {
        let network = self.network();
        let mut next = Some(0);
        while let Some(first) = next {
            next = network.settle(first, false);
        }
    }

    /// The same on a thread of its own, some after the other, while the model is used. It ends early when the model is dropped.
    pub fn settle_behind(&self) {
        let network = Arc::downgrade(self.network());
        let settle = move || {
            let mut next = Some(0);
            while let Some(first) = next {
                next = network.upgrade().and_then(|network| network.settle(first, true));
            }
        };
        // Without a thread they stay as they are.
        let _ = thread::Builder::new().name("engine-settle".to_owned()).spawn(settle);
    }
}
