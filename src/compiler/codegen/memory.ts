import { assert } from '../../numerics/assert.ts';
import { type ElementType, elementBytes } from '../../numerics/element-type.ts';
import type { Lanes } from './lanes.ts';
import type { Block, FunctionBuilder, Node, Store } from './ssa.ts';
import { memoryArgument, simdCode } from './wasm.ts';

/*
 * Loads and stores of array elements: four neighbours, four elements at separate addresses, or one
 * element. In memory f32, s32 and u32 have four bytes, bf16 two, pred one. In a SIMD lane each type
 * has 32 bits, see lanes.ts.
 */

/**
 * Writes loads and stores. Loads from the same address are one instruction, and share its result.
 * Exception: if a block `again` is given, the load is an instruction of its own, which runs anew
 * each time that this block runs. This is needed where stores change the memory between two runs.
 */
export class Memory {
  readonly #to: FunctionBuilder;
  readonly #lanes: Lanes;

  constructor(to: FunctionBuilder, lanes: Lanes) {
    this.#to = to;
    this.#lanes = lanes;
  }

  /** Loads four neighbouring elements, the first at `address` + `offset` bytes. */
  loadFour(type: ElementType, address: Node, offset: number, again?: Block): Node {
    const load = (code: readonly number[]): Node =>
      again === undefined
        ? this.#to.node('v128', code, address)
        : this.#to.freshNode(again, 'v128', code, address);
    const lanes = this.#lanes;
    switch (elementBytes(type)) {
      case 4:
        return load(simdCode('load', ...memoryArgument(2, offset)));
      case 2: {
        const halves = load(simdCode('load16x4U', ...memoryArgument(1, offset)));
        return lanes.op('i32x4Shl', halves, this.#to.i32(16));
      }
      default: {
        const bytes = load(simdCode('load32Zero', ...memoryArgument(0, offset)));
        const words = lanes.op('i32x4ExtendLowI16x8U', lanes.op('i16x8ExtendLowI8x16U', bytes));
        return lanes.op('i32x4Neg', words);
      }
    }
  }

  /** Loads one element into every lane. */
  loadOne(type: ElementType, address: Node, again?: Block): Node {
    const load = (result: 'i32' | 'v128', code: readonly number[]): Node =>
      again === undefined
        ? this.#to.node(result, code, address)
        : this.#to.freshNode(again, result, code, address);
    if (elementBytes(type) === 4) {
      return load('v128', simdCode('load32Splat', ...memoryArgument(2, 0)));
    }
    return this.#widened(type, this.#lanes.splat(load('i32', loadWord(type))));
  }

  /** Loads four elements, each from an address of its own. */
  loadEach(type: ElementType, addresses: readonly Node[]): Node {
    const lanes = this.#lanes;
    if (elementBytes(type) === 4) {
      return addresses.reduce<Node | undefined>((sum, address, lane) => {
        if (sum === undefined) {
          return this.#to.node('v128', simdCode('load32Zero', ...memoryArgument(2, 0)), address);
        }
        const code = simdCode('load32Lane', ...memoryArgument(2, 0), lane);
        return this.#to.node('v128', code, address, sum);
      }, undefined)!;
    }
    const words = addresses.map((address) => this.#to.node('i32', loadWord(type), address));
    const [first, ...rest] = words;
    assert(first !== undefined, 'four addresses');
    const all = rest.reduce((sum, word, i) => lanes.replace(sum, i + 1, word), lanes.splat(first));
    return this.#widened(type, all);
  }

  /** Stores four lanes to neighbouring elements, the first at `address` + `offset` bytes. */
  storeFour(type: ElementType, address: Node, offset: number, value: Node): Store {
    const lanes = this.#lanes;
    switch (elementBytes(type)) {
      case 4:
        return { address, value, code: simdCode('store', ...memoryArgument(2, offset)) };
      case 2: {
        const words = lanes.op('i32x4ShrU', value, this.#to.i32(16));
        const halves = lanes.op('i16x8NarrowI32x4U', words, words);
        const code = simdCode('store64Lane', ...memoryArgument(1, offset), 0);
        return { address, value: halves, code };
      }
      default: {
        const words = lanes.op('and', value, lanes.bits(1));
        const halves = lanes.op('i16x8NarrowI32x4S', words, words);
        const bytes = lanes.op('i8x16NarrowI16x8U', halves, halves);
        const code = simdCode('store32Lane', ...memoryArgument(0, offset), 0);
        return { address, value: bytes, code };
      }
    }
  }

  /** Stores the first lane of `value`. */
  storeOne(type: ElementType, address: Node, value: Node): Store {
    const lanes = this.#lanes;
    switch (elementBytes(type)) {
      case 4:
        return { address, value, code: simdCode('store32Lane', ...memoryArgument(2, 0), 0) };
      case 2: {
        const words = lanes.op('i32x4ShrU', value, this.#to.i32(16));
        return { address, value: lanes.extract(words, 0), code: [0x3b, ...memoryArgument(1, 0)] };
      }
      default: {
        const words = lanes.op('and', value, lanes.bits(1));
        return { address, value: lanes.extract(words, 0), code: [0x3a, ...memoryArgument(0, 0)] };
      }
    }
  }

  /**
   * Converts four elements to the form in which SIMD lanes hold them: a bf16 becomes the f32 of the
   * same value, a pred (0 or 1) becomes a mask. Each lane of `words` has the bits of one element as
   * an integer.
   */
  #widened(type: ElementType, words: Node): Node {
    return type === 'bf16'
      ? this.#lanes.op('i32x4Shl', words, this.#to.i32(16))
      : this.#lanes.op('i32x4Neg', words);
  }
}

/** Returns the code of i32.load16_u for bf16, and of i32.load8_u for pred. */
function loadWord(type: ElementType): number[] {
  return elementBytes(type) === 2
    ? [0x2f, ...memoryArgument(1, 0)]
    : [0x2d, ...memoryArgument(0, 0)];
}
