/**
 * Names of the fields of log lines, each with its meaning. A field has the same meaning in all
 * places: in the file that `pod train --log` writes, in the logs of master, workers and supervisor,
 * in the log of a job, and in the answer of `/status`. Fields whose names end in `Ms` are times in
 * ms.
 */
export const logFields: Readonly<Record<string, string>> = {
  // Of every line.
  level: '20 debug, 30 info, 40 warn, 50 error',
  time: 'wall time, in ms since 1970',
  msg: 'name of the event, or the message of a warning or an error',
  job: 'name of the run: `train` with `pod train`; `POD_JOB` of the pod; `job-7` for a job of a serving master',
  role: 'program that wrote the line: `train`, `master`, `worker`, `supervisor`',
  // Of events of a run.
  accuracy: 'fraction of the images of the step, or of the evaluation, that were classified right',
  bytes: 'size of a file, or of a log line that was too long',
  causedMs:
    'mean time that each other Cloud TPU waited for the slowest one, as far as its own work took longer than theirs',
  cause: 'reason, in words',
  checkpoint: 'checkpoint with which the run begins or goes on; null for none',
  checkpoints: 'checkpoints of the run: source, refused, saved, failed',
  code: 'code of an error',
  config: 'settings of the run',
  correct: 'number of images that were classified right',
  data: 'data set',
  digest: 'digest of the weights after the step',
  elapsedMs: 'time since the start of the run (`ready`), or since the first fault of a recovery',
  epoch: 'passes over the training set so far, as a fraction',
  evalAccuracy: '`accuracy` of the evaluation',
  evalSamples: '`samples` of the evaluation',
  event: 'name of a fault or of a stage of a recovery; equal to `msg`',
  finalLoss: '`loss` of the last step',
  generation: 'number of the membership',
  globalBatch: 'images in a step',
  hbmBytesPerCore: 'HBM that a step takes on each core',
  hbmLimitBytes: 'HBM that a core has',
  imagesPerSecond: 'images a second: over recent steps, or over the run in `summary`',
  inARow: 'number of consecutive steps in which the straggler was slow',
  learningRate: 'learning rate of the step',
  linkBytes: 'payload bytes of each directed link, since the pod was opened',
  longest: 'for each phase of the step: the Cloud TPU that took longest, and its time (`ms`)',
  loss: 'mean loss of the step, or of the evaluation',
  model: 'network',
  mxu: 'emulation of the MXU',
  name: 'name of a checkpoint',
  othersMs: 'median of the own work of each other Cloud TPU in the step',
  ownMs:
    'own work of the Cloud TPU in the step: the time of all phases except the all-reduce, in which it may only wait for others; and the time for which it held up the others in the all-reduce',
  parameters: 'number of parameters of the network',
  phaseMs:
    'time of each phase, as the mean over the Cloud TPUs; `commit` is the rest of the step, so that all add up to `wallMs`. In `summary`: quantiles over the steps',
  precision: 'type of the numbers that the MXU multiplies',
  program: 'program of the interrupted step: 0 training, 1 evaluation; null between steps',
  reason: 'reason why a checkpoint or a job failed',
  recoveries: 'number of recoveries',
  refused: 'checkpoints that could not be used, each with the reason',
  samples: 'number of held-out images',
  saved: 'true if `--resume` can continue the run',
  seed: 'seed of the run',
  slowest:
    'the Cloud TPU with the most own work in the step: `tpu`, `ownMs`, `othersMs`. In `summary`: the one that was the slowest in most `steps` of `ofSteps`',
  slowestPhase: 'phase that took most of the own work of the slowest Cloud TPU',
  step: 'number of the step, from 1; in lines about the state of a run, the last committed step; in lines about a fault, the interrupted step',
  stepMs: 'quantiles of `wallMs` over the steps',
  steps: 'number of steps of the run',
  stepsTrained: 'number of steps that this run trained, without those before `--resume`',
  timing:
    'effect of the slowest Cloud TPU: `slowestPhase`, `slowestSince` (the first step of the row in which it was the slowest), `waitMs` (mean wait of the others), `causedMs`, and `slowestLink` (of the links that leave it, the one on which the other end waited longest: `link`, `waitMs`)',
  topology: 'grid of Cloud TPUs',
  tpu: 'number of the Cloud TPU',
  tpuLinkWaitMs:
    'wait of each Cloud TPU (rows) for frames of each link that enters it from another Cloud TPU (columns: by chip, then by direction +x, -x, +y, -y); in a log only at the level `debug`',
  tpuPhaseMs:
    'time of each Cloud TPU (rows) in infeed, compute, all-reduce, update, outfeed (columns); in a log only at the level `debug`',
  tpus: 'number of Cloud TPUs',
  trainSamples: 'size of the training set',
  wallMs: 'wall time of the step, or of the save of a checkpoint',
  weightsDigest: '`digest` of the last step, or of the weights with which the run begins',
  // Of lines about the processes of a pod.
  address: 'address of a connection that was turned away',
  codes: 'number of refused connections by code',
  count: 'number of lines or connections that the line sums up',
  exitCode: 'exit code of a process',
  host: 'address at which other workers reach the worker',
  hostname: 'name of the machine or container of the worker',
  id: 'job that a line of a serving master is about',
  kind: 'kind of a message that the master ignored',
  lines: 'numbers of the damaged lines of the commit log',
  master: 'address of the master that the worker looks for',
  path: 'file that the program waits for',
  peer: 'worker at the other end of a connection',
  pid: 'process of the worker',
  port: 'port on which the program listens',
  rank: 'Cloud TPU that a worker asked for',
  restarts: 'number of restarts in a row',
  signal: 'signal that the program received',
  spares: 'number of workers that wait for a Cloud TPU',
  stack: 'where a defect of this program occurred',
  waitMsLimit: 'time after which a wait is given up',
  waitedMs: 'time waited so far',
};

/**
 * Meaning of the fields that only `/status` has. `/status` has the fields of {@link logFields} too.
 */
export const statusFields: Readonly<Record<string, string>> = {
  last: 'the last step, with the fields of its log line, `tpuPhaseMs` and `tpuLinkWaitMs`',
  members: 'for each Cloud TPU: `tpu`, `state`, `pid`, `host`, `hostname`',
  phase:
    'state of the pod: `joining`, `loading`, `restoring`, `rolling-back`, `ready`, `stepping`, `done`, `failed`; absent without a job',
};
