"""Documents generated from the routes of an application: AsyncAPI, JSON Schema, TypeScript."""
