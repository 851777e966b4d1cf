/** Entry file of the worker as an ES module; the program itself starts in main.cts. */
import './main.cts';
