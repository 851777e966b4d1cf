/** Section of the help texts that lists the exit codes of a run, as docs/OPERATING.md does. */
export const exitCodes = `Exit codes:
    0  all of the work was done
    2  wrong input: a flag, a setting, a file, data, or a folder that is in use
    3  Cloud TPUs failed beyond recovery, or the run diverged
    4  memory, threads or HBM do not suffice, or a program is not supported
    5  a file could not be read or written, or output was lost
  130  ended by Ctrl-C (SIGINT) before all of the work was done
  143  ended by SIGTERM or SIGHUP before all of the work was done
`;
