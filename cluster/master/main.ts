/** The master as a module, for those who start it by this name. */
import './main.cts';
