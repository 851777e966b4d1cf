/** A Cloud TPU's port to the ICI network, which sums buckets over all chips of the slice. */
export interface IciPort {
  /** Starts the all-reduce of a bucket. Each copy of the bucket holds one chip's vector. */
  start(bucket: number): void;
  /** Does the all-reduce work that needs no waiting. Returns true if any data moved. */
  progress(): boolean;
  /**
   * Waits until copy 0 of the bucket holds the sum. Throws `link-timeout` if the time limit passes
   * or the master ends the step.
   */
  finish(bucket: number): void;
}

/** Infeed of the present step: the arrays that the host feeds to the cores. */
export interface InfeedPort {
  /** Waits until the host has written `element` for `core`, and returns its byte address. */
  address(element: number, core: number): number;
  /** Tells the host that the cores have copied all elements of this step. */
  release(): void;
}

/**
 * Outfeed: takes the arrays that the cores send to the host. Only core 0 sends a `shared` element.
 */
export interface OutfeedPort {
  send(element: number, core: number, address: number, bytes: number): void;
}

/** Connections of a Cloud TPU to the host and the network during a step. */
export interface Ports {
  readonly infeed: InfeedPort;
  readonly outfeed: OutfeedPort;
  readonly ici: IciPort;
  /** Advances the progress counter. The cores call it after every piece of work. */
  beat(): void;
}
