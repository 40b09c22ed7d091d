"""Documents generated from an application's routes: AsyncAPI, JSON Schema, TypeScript types."""
