/**
 * A Cloud TPU's port to the ICI network. The port sums buckets (vectors of gradients) over all
 * chips of the slice.
 */
export interface IciPort {
  /** Starts the all-reduce of a bucket. Copy c of the bucket holds the vector of chip c. */
  start(bucket: number): void;
  /**
   * Advances the running all-reduces as far as possible without waiting. Returns true if any data
   * moved.
   */
  progress(): boolean;
  /**
   * Waits until copy 0 of the bucket holds the sum over all chips of the slice. Throws
   * `link-timeout` if the time limit passes or the master ends the step.
   */
  finish(bucket: number): void;
}

/** Infeed of the current step: the arrays that the host feeds to the cores. */
export interface InfeedPort {
  /**
   * Waits until the host has written the element with index `element` for the core with index
   * `core`. Returns the byte address of the element.
   */
  address(element: number, core: number): number;
  /** Called when the cores have copied all infeed elements of the current step. */
  release(): void;
}

/**
 * Outfeed: receives the arrays that the cores send to the host. A `shared` element is equal on all
 * cores, so only core 0 sends it.
 */
export interface OutfeedPort {
  send(element: number, core: number, address: number, bytes: number): void;
}

/** Connections of a Cloud TPU to the host and the network during a step. */
export interface Ports {
  readonly infeed: InfeedPort;
  readonly outfeed: OutfeedPort;
  readonly ici: IciPort;
  /**
   * Advances the progress counter, which shows that this Cloud TPU is alive. The cores call the
   * method after every operation, MXU call and call of a fused loop.
   */
  beat(): void;
  /**
   * Called when the instructions of a phase begin, with the index of the phase in `phases` of
   * isa/executable.ts. Set only if a fault plan has faults for this Cloud TPU.
   */
  readonly enter?: (phase: number) => void;
}
