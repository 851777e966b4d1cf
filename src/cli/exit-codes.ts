/** Exit codes of a run, the same as in docs/OPERATING.md, for help texts. */
export const exitCodes = `Exit codes:
    0  all of the work was done
    2  wrong input: a flag, a setting, a file, data, or a folder that is in use
    3  Cloud TPUs failed beyond recovery, or the run diverged
    4  the program does not fit
    5  a file could not be read or written, or output was lost
  130  ended by Ctrl-C (SIGINT), before all was done
  143  ended by SIGTERM or SIGHUP, before all was done
`;
