/** The `pod` command as an ES module, for callers that start it as `main.ts`. */
import './main.cts';
