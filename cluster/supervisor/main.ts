/** Entry file of the supervisor as an ES module; the program itself starts in main.cts. */
import './main.cts';
