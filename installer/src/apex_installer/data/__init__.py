"""Data the farm generated from its TOML: recipe.json and toolkits.json."""
