/** A Cloud TPU's end of the network: sums buckets over all chips of the slice. */
export interface IciPort {
  /** Hands over bucket `bucket`, whose copies hold each chip's vector. */
  start(bucket: number): void;
  /** Does what can be done now without waiting; whether anything moved. */
  progress(): boolean;
  /** Waits until copy 0 of the bucket holds the sum. Throws when told to stop or out of time. */
  finish(bucket: number): void;
}

/** Where the host has put what it feeds the cores in the present step. */
export interface InfeedPort {
  /** Byte address of element `element` for core `core`; waits until the host has put it there. */
  address(element: number, core: number): number;
  /** All of this step's feed has been taken. */
  release(): void;
}

/** Where the cores put what they send to the host. A `shared` element is sent by core 0 alone. */
export interface OutfeedPort {
  send(element: number, core: number, address: number, bytes: number): void;
}

/** What a Cloud TPU is connected to while it runs a step. */
export interface Ports {
  readonly infeed: InfeedPort;
  readonly outfeed: OutfeedPort;
  readonly ici: IciPort;
  /** Called at every piece of work done: the sign of life. */
  beat(): void;
}
