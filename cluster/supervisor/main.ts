/** The supervisor as a module, for those who start it by this name. */
import './main.cts';
