/**
 * Every figure of the machine, each with its unit and its source. Nothing else in `src` states a
 * number about the hardware; `test/spec` holds the relations between the figures. A figure marked
 * "assumed" has no publication that we know.
 *
 * Sources by the names used here: CACM 2020 is N. Jouppi et al., "A Domain-Specific Supercomputer for
 * Training Deep Neural Networks", Communications of the ACM 63(7), 2020. Hot Chips 2020 and IEEE Micro
 * 2021 are T. Norrie et al., "Google's Training Chips Revealed: TPUv2 and TPUv3", Hot Chips 32, and "The
 * Design Process for Google's Training Chips: TPUv2 and TPUv3", IEEE Micro 41(2). The talk is C. Ying,
 * "ImageNet is the new MNIST", 2018. Cloud TPU docs are https://cloud.google.com/tpu/docs; the JAX
 * scaling book is https://jax-ml.github.io/scaling-book.
 */
export const tpuV2 = {
  /** [CACM 2020] */
  clockHz: 700e6,
  /** [CACM 2020; Cloud TPU docs] */
  coresPerChip: 2,
  /** [CACM 2020; Cloud TPU docs] */
  mxusPerCore: 1,
  /** As the talk rounds it; the array's own arithmetic gives 45.9e12. [the talk] */
  nominalFlopsPerSecondPerChip: 45e12,
  /** Side of the array of bf16 multipliers with f32 accumulators: 128×128. [CACM 2020] */
  mxuSide: 128,
  /** Rows of the left-hand side that one pass of the array takes. [JAX scaling book] */
  mxuPassRows: 8,
  /** Cycles of one pass: bf16[8,128] × bf16[128,128]. [JAX scaling book] */
  mxuPassCycles: 8,
  /** Cycles until the first sum leaves an empty array, 128 to the right and 128 down. [assumed] */
  mxuFillCycles: 256,

  /** [Hot Chips 2020] */
  vectorLanes: 128,
  /** [Hot Chips 2020] */
  vectorSublanes: 8,
  /** f32 units of each lane of each sublane. [Hot Chips 2020] */
  vectorAlus: 2,
  /** Registers of 8×128 words of 32 bits. [Hot Chips 2020] */
  vectorRegisters: 32,

  /** 8 GiB a core, half of a chip's 16 GB. [Cloud TPU docs] */
  hbmBytesPerCore: 8_589_934_592,
  /** What the system keeps for itself: 528 MiB. [out-of-memory messages of XLA on TPU v2 that users published; some say 530 MiB] */
  hbmReservedBytesPerCore: 553_648_128,
  /** [the talk; the Cloud profiler's peak was 2416e9 a Cloud TPU; CACM 2020 says 700e9 a chip] */
  hbmBytesPerSecondPerChip: 600e9,
  /** Arrays are padded to tiles of sublanes × lanes. [Cloud TPU performance guide] */
  tileSublanes: 8,
  /** [Cloud TPU performance guide] */
  tileLanes: 128,

  /** Vector memory: 32 Ki × 128 words of 32 bits. [Hot Chips 2020] */
  vmemBytesPerCore: 16_777_216,
  /** Scalar memory: 4 Ki words of 32 bits. [Hot Chips 2020] */
  smemBytesPerCore: 16_384,

  /** Width of an instruction. [IEEE Micro 2021] */
  instructionBits: 322,
  /** What one instruction issues at most. [IEEE Micro 2021] */
  instructionSlots: { scalar: 2, vector: 4, matrixPush: 1, matrixPop: 1, misc: 1, immediates: 6 },
  /** Vector slots that load or store. [IEEE Micro 2021] */
  vectorMemorySlots: 2,

  /** Links of a chip: left, right, up, down. [CACM 2020] */
  iciLinksPerChip: 4,
  /** Each way on each link. [CACM 2020] */
  iciBitsPerSecondPerLink: 496e9,
  /** Not published for this part: an assumption from later ones, about 1 µs. [JAX scaling book] */
  iciHopSeconds: 1e-6,

  /** Chips of a Cloud TPU, the board with one host: 2×2. [Cloud TPU docs] */
  chipColumnsPerCloudTpu: 2,
  /** [Cloud TPU docs] */
  chipRowsPerCloudTpu: 2,
  /** Cloud TPUs of a whole pod, 16×16 chips. [the talk; CACM 2020] */
  cloudTpusPerPod: 64,
  /** A whole pod is a torus of 16×16 chips. [CACM 2020] */
  podChipColumns: 16,
  podChipRows: 16,
  /** Only an axis of this many chips, the whole pod's, has the wrap-around link. [assumed] */
  wrapAroundChips: 16,

  /** Thermal design power. [CACM 2020] */
  wattsPerChip: 280,
  /** [MLPerf 0.5 entries] */
  hostVcpusPerCloudTpu: 32,
} as const;

/** What a number of Cloud TPUs amounts to. */
export interface SliceFigures {
  readonly cloudTpus: number;
  readonly chips: number;
  readonly cores: number;
  /** Peak of the MXUs in bf16, a multiplication and an addition counting as two. */
  readonly flopsPerSecond: number;
  readonly hbmBytes: number;
  /** What programs may use of `hbmBytes`. */
  readonly hbmUsableBytes: number;
  readonly hbmBytesPerSecond: number;
  readonly watts: number;
}

/** The figures of `cloudTpus` Cloud TPUs together. */
export function sliceFigures(cloudTpus: number): SliceFigures {
  const chips = cloudTpus * chipsPerCloudTpu;
  const cores = chips * tpuV2.coresPerChip;
  return {
    cloudTpus,
    chips,
    cores,
    flopsPerSecond: cores * flopsPerSecondPerCore,
    hbmBytes: cores * tpuV2.hbmBytesPerCore,
    hbmUsableBytes: cores * hbmUsableBytesPerCore,
    hbmBytesPerSecond: chips * tpuV2.hbmBytesPerSecondPerChip,
    watts: chips * tpuV2.wattsPerChip,
  };
}

/** Four chips share a host. */
export const chipsPerCloudTpu: number = tpuV2.chipColumnsPerCloudTpu * tpuV2.chipRowsPerCloudTpu;

/** Eight replicas of a program run on one Cloud TPU. */
export const coresPerCloudTpu: number = chipsPerCloudTpu * tpuV2.coresPerChip;

/** 22.94 TFLOP/s: every multiplier of the array multiplies and adds once a cycle. */
export const flopsPerSecondPerCore: number =
  2 * tpuV2.mxusPerCore * tpuV2.mxuSide ** 2 * tpuV2.clockHz;

/** f32 operations of the vector unit of a core. */
export const vectorOpsPerSecondPerCore: number =
  tpuV2.vectorLanes * tpuV2.vectorSublanes * tpuV2.vectorAlus * tpuV2.clockHz;

/** HBM of a core that a program may fill. */
export const hbmUsableBytesPerCore: number = tpuV2.hbmBytesPerCore - tpuV2.hbmReservedBytesPerCore;

/** 62 GB/s, each way on each link. */
export const iciBytesPerSecondPerLink: number = tpuV2.iciBitsPerSecondPerLink / 8;
