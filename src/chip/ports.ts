/**
 * A Cloud TPU's port to the ICI network, which runs the collectives of a program. Collective i is the
 * all-reduce of bucket i; the exchanges come after the buckets. The all-reduce of a bucket (a vector
 * of gradients) sums the bucket over all chips of the slice.
 */
export interface IciPort {
  /**
   * Starts a collective. Copy c of a bucket holds the vector of chip c. The source of an exchange
   * holds the rows to send.
   */
  start(collective: number): void;
  /**
   * Advances the running collectives as far as possible without waiting. Returns true if any data
   * moved.
   */
  progress(): boolean;
  /**
   * Waits until a collective is done. Copy 0 of a bucket then holds the sum over all chips of the
   * slice; the target of an exchange holds the received rows. Throws `link-timeout` if the time limit
   * passes or the master ends the step.
   */
  finish(collective: number): void;
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
