//! A recipe: refused, or what it says can be written and read again.
#![no_main]

use joulefront::recipe::Recipe;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(recipe) = Recipe::from_toml(text) else { return };
    let _ = recipe.options();
    let json = serde_json::to_string(&recipe).expect("a recipe can be written");
    let again: Recipe = serde_json::from_str(&json).expect("what was written can be read");
    assert_eq!(serde_json::to_string(&again).expect("a recipe can be written"), json);
});
