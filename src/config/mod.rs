//! Text to checked settings: the only part that knows TOML.
