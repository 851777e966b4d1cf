/** Entry point for callers that start the master as `main.ts`. Loads main.cts. */
import './main.cts';
