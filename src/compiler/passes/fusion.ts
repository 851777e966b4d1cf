import { fusion, getTupleElement, parameter, tuple } from '../../hlo/build.ts';
import type {
  HloComputation,
  HloInstruction,
  HloModule,
  Parameter,
  WindowDimension,
} from '../../hlo/instruction.ts';
import type { Family } from '../../hlo/ops/definition.ts';
import { familyOf } from '../../hlo/ops.ts';
import { postOrder, withOperands } from '../../hlo/traverse.ts';
import { assert, at } from '../../numerics/assert.ts';
import { type ArrayShape, elementCount, isArray, sameDims } from '../../numerics/shape.ts';
import { variesByCore } from '../sharing.ts';

/** Returns true if `body` can be one fused loop, otherwise the reason why not. */
export type FusedLoopSupport = (body: HloComputation) => true | string;

/**
 * Gathers element-wise operations, changes of shape and reductions into fused loops. Other
 * instructions stay outside of loops. The function visits users before operands. Each instruction
 * to gather takes the first of these ways that is possible:
 *
 * 1. The instruction joins the loops of its users. This is possible if all users are in one loop.
 *    It is also possible if the users are in several loops and the instruction is cheap enough to
 *    be computed in each of them.
 * 2. The instruction stays outside of loops. Only a reshape can do so, because it costs nothing
 *    there.
 * 3. The instruction becomes an additional output of a loop that uses it. Users outside of that
 *    loop read the output from memory.
 * 4. The instruction starts a new loop.
 * 5. The instruction stays outside of loops, because `supports` refuses the loop. Plain code then
 *    computes it.
 */
export function fuse(module: HloModule, supports: FusedLoopSupport): HloModule {
  const plan = planGroups(module.entry, supports);
  return { ...module, entry: { ...module.entry, root: rebuilt(module.entry.root, plan) } };
}

/**
 * A fused loop that is being planned. `outputs[0]` is the instruction that started the loop. All
 * outputs have the dimensions of `outputs[0]`.
 */
interface Group {
  readonly outputs: HloInstruction[];
  readonly members: Set<HloInstruction>;
  readonly varies: boolean;
}

/** State of the planning: the groups (future fused loops) that compute each instruction. */
class Plan {
  /** For each instruction: the groups that compute it. An instruction outside of loops has none. */
  readonly groupsOf: Map<HloInstruction, Group[]> = new Map();
  /**
   * For each instruction that is an output of a group: that group. Other instructions have no
   * entry.
   */
  readonly outputOf: Map<HloInstruction, Group> = new Map();
  readonly usersOf: Map<HloInstruction, HloInstruction[]>;
  readonly varies: ReadonlySet<HloInstruction>;
  readonly supports: FusedLoopSupport;

  constructor(order: readonly HloInstruction[], supports: FusedLoopSupport) {
    this.usersOf = new Map(order.map((it) => [it, []]));
    for (const it of order) for (const x of it.operands) this.usersOf.get(x)!.push(it);
    this.varies = variesByCore(order);
    this.supports = supports;
  }

  groups(it: HloInstruction): readonly Group[] {
    return this.groupsOf.get(it) ?? [];
  }

  /** True if the value of `it` is in memory, so that any instruction can read it. */
  inMemory(it: HloInstruction): boolean {
    return this.outputOf.has(it) || this.groups(it).length === 0;
  }

  join(it: HloInstruction, group: Group): void {
    group.members.add(it);
    this.groupsOf.set(it, [...this.groups(it), group]);
  }

  leave(it: HloInstruction, group: Group): void {
    group.members.delete(it);
    this.groupsOf.set(
      it,
      this.groups(it).filter((other) => other !== group),
    );
  }
}

function planGroups(entry: HloComputation, supports: FusedLoopSupport): Plan {
  const order = postOrder(entry.root);
  const plan = new Plan(order, supports);
  for (const it of order.toReversed()) if (isFusible(it)) place(plan, it, it === entry.root);
  return plan;
}

/** Families of the instructions that fused loops compute. */
const fusible: ReadonlySet<Family> = new Set(['elementwise', 'rearranging', 'reduction']);

function isFusible(it: HloInstruction): boolean {
  return fusible.has(familyOf(it));
}

function isElementwise(it: HloInstruction): boolean {
  return familyOf(it) === 'elementwise';
}

/**
 * Decides which groups (future fused loops) compute the instruction `it`. The groups of all users
 * of `it` must have been decided before.
 */
function place(plan: Plan, it: HloInstruction, isRoot: boolean): void {
  const users = plan.usersOf.get(it)!;
  const groups = [...new Set(users.flatMap((user) => plan.groups(user)))];
  const needed = isRoot || users.some((user) => needsMemory(plan, user));
  if (!needed && (groups.length === 1 || isCheap(it)) && joinAll(plan, it, groups)) return;
  if (it.opcode === 'reshape') return;
  for (const group of groups) if (joinAsOutput(plan, it, group)) return;
  startGroup(plan, it);
}

/** True if `user` is outside of all loops. Such an instruction reads its operands from memory. */
function needsMemory(plan: Plan, user: HloInstruction): boolean {
  return plan.groups(user).length === 0;
}

/** Starts a loop with the output `it`. If `supports` refuses the loop, `it` stays outside of loops. */
function startGroup(plan: Plan, it: HloInstruction): void {
  const group: Group = { outputs: [it], members: new Set(), varies: plan.varies.has(it) };
  plan.join(it, group);
  plan.outputOf.set(it, group);
  if (plan.supports(bodyOf(plan, group).body) === true) return;
  plan.leave(it, group);
  plan.outputOf.delete(it);
}

/**
 * Adds `it` to all `groups` and returns true. If one of the groups cannot take `it`, adds it to no
 * group and returns false.
 */
function joinAll(plan: Plan, it: HloInstruction, groups: readonly Group[]): boolean {
  const joined: Group[] = [];
  for (const group of groups) {
    if (!isWorthFusing(plan, it, group) || !tryJoin(plan, it, group)) {
      for (const other of joined) plan.leave(it, other);
      return false;
    }
    joined.push(group);
  }
  return true;
}

function tryJoin(plan: Plan, it: HloInstruction, group: Group): boolean {
  plan.join(it, group);
  const { body, operands } = bodyOf(plan, group);
  const fits = group.members.size <= membersMax && operands.length <= operandsMax;
  if (fits && plan.supports(body) === true) return true;
  plan.leave(it, group);
  return false;
}

/**
 * Limits of a fused loop: how many instructions and how many operands it may have. The limits bound
 * the number of local variables and addresses in the code of the loop.
 */
const membersMax = 160;
const operandsMax = 24;

/**
 * True if computing the instruction `it` inside the group costs no more than writing its value to
 * memory and reading it there.
 */
function isWorthFusing(plan: Plan, it: HloInstruction, group: Group): boolean {
  if (isCheap(it)) return true;
  if (group.varies && !plan.varies.has(it)) return false;
  const users = plan.usersOf.get(it)!.filter((user) => group.members.has(user));
  if (familyOf(it) === 'reduction') {
    return users.every((user) => isSameSize(user, it) && isAtIndex(plan, user, group));
  }
  return users.every((user) => !repeats(user, it));
}

/** True if `user` reads an element of `it` more than once. */
function repeats(user: HloInstruction, it: HloInstruction): boolean {
  switch (user.opcode) {
    case 'broadcast':
      return elementCount(user.shape) > elementCount(it.shape as ArrayShape);
    case 'reduce-window':
    case 'select-and-scatter':
      return user.window.some(overlaps);
    case 'reduce':
      return isInit(user, it);
    case 'pad':
      return at(user.operands, 1) === it;
    case 'clamp':
      return !isSameSize(user, it);
    default:
      return false;
  }
}

function isSameSize(a: HloInstruction, b: HloInstruction): boolean {
  return isArray(a.shape) && isArray(b.shape) && sameDims(a.shape.dims, b.shape.dims);
}

function overlaps({ size, stride }: WindowDimension): boolean {
  return stride < size;
}

function isInit(user: HloInstruction, it: HloInstruction): boolean {
  return user.operands.slice(user.operands.length / 2).includes(it);
}

/**
 * True for instructions that only compute indices and for comparisons with a scalar. Computing such
 * an instruction takes no longer than reading its result from memory.
 */
function isCheap(it: HloInstruction): boolean {
  switch (it.opcode) {
    case 'broadcast':
    case 'iota':
    case 'reshape':
    case 'slice':
      return true;
    case 'compare':
      return it.operands.some((x) => x.opcode === 'broadcast' && x.dimensions.length === 0);
    default:
      return false;
  }
}

/**
 * True if the loop uses each element of `it` only for output elements at the same index. This is so
 * if all instructions from `it` to the outputs of the group are element-wise and have the
 * dimensions of the outputs.
 */
function isAtIndex(plan: Plan, it: HloInstruction, group: Group): boolean {
  if (!isElementwise(it)) return false;
  const { dims } = at(group.outputs, 0).shape as ArrayShape;
  const seen = new Set<HloInstruction>();
  const pending = [it];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (seen.has(next)) continue;
    seen.add(next);
    if (!isElementwise(next) || !sameDims((next.shape as ArrayShape).dims, dims)) {
      return false;
    }
    if (group.outputs.includes(next)) continue;
    pending.push(...plan.usersOf.get(next)!.filter((user) => group.members.has(user)));
  }
  return true;
}

/**
 * Makes `it` an additional output of a group that uses it. Returns false, and changes nothing, if
 * that is not possible.
 */
function joinAsOutput(plan: Plan, it: HloInstruction, group: Group): boolean {
  if (!isElementwise(it) || group.varies !== plan.varies.has(it)) return false;
  const users = plan.usersOf.get(it)!;
  const inside = users.filter((user) => group.members.has(user));
  const atIndex = (user: HloInstruction): boolean =>
    isSameSize(user, it) && isAtIndex(plan, user, group);
  if (!inside.every(atIndex)) return false;
  const others = users.filter((user) => !group.members.has(user));
  if (reaches(plan, others, group)) return false;
  group.outputs.push(it);
  plan.outputOf.set(it, group);
  if (tryJoin(plan, it, group)) return true;
  group.outputs.pop();
  plan.outputOf.delete(it);
  return false;
}

/**
 * True if the group depends on one of the instructions `starts`. A group depends on an instruction
 * that it contains. It also depends on an instruction if one of its own instructions uses the
 * result, directly, through other instructions or through other groups.
 */
function reaches(plan: Plan, starts: readonly HloInstruction[], group: Group): boolean {
  const seen = new Set<HloInstruction>();
  const pending = [...starts];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (group.members.has(next)) return true;
    if (seen.has(next)) continue;
    seen.add(next);
    pending.push(...plan.usersOf.get(next)!);
    for (const within of plan.groups(next)) {
      for (const output of within.outputs) pending.push(...plan.usersOf.get(output)!);
    }
  }
  return false;
}

interface Body {
  readonly body: HloComputation;
  /** Parameter i of `body` takes the value of `operands[i]`, an instruction outside of the loop. */
  readonly operands: readonly HloInstruction[];
}

/**
 * Returns the body of the group's fused loop, and the operands of the body. A scalar constant
 * becomes part of the body. A reshape of an array from outside of the loop stays outside, because
 * the reshape of an array in memory costs nothing.
 */
function bodyOf(plan: Plan, group: Group): Body {
  const inside = innerOrder(plan, group);
  const copies = new Map<HloInstruction, HloInstruction>();
  const operands: HloInstruction[] = [];
  const parameters: Parameter[] = [];
  for (const it of inside) {
    const copied = it.operands.map((x) => copies.get(x) ?? copyOf(x));
    copies.set(it, withOperands(it, copied));
  }
  const outputs = group.outputs.map((it) => copies.get(it)!);
  const root = outputs.length === 1 ? at(outputs, 0) : tuple(outputs);
  return { body: { name: 'loop', parameters, root }, operands };

  function copyOf(x: HloInstruction): HloInstruction {
    const copy = isScalarConstant(x) ? x : parameterFor(x);
    copies.set(x, copy);
    return copy;
  }

  function parameterFor(x: HloInstruction): Parameter {
    const made = parameter(operands.length, x.shape, x.name);
    operands.push(x);
    parameters.push(made);
    return made;
  }
}

function isScalarConstant(it: HloInstruction): boolean {
  return it.opcode === 'constant' && it.shape.dims.length === 0;
}

/**
 * Returns the instructions in the body of the group's loop, operands before users. The body has all
 * members of the group, except reshapes of arrays from outside of the group.
 */
function innerOrder(plan: Plan, group: Group): HloInstruction[] {
  const isInner = (it: HloInstruction): boolean =>
    group.members.has(it) && (group.outputs.includes(it) || !isFreeReshape(plan, it, group));
  const order: HloInstruction[] = [];
  const seen = new Set<HloInstruction>();
  const path: { readonly it: HloInstruction; next: number }[] = [];
  for (const output of group.outputs) {
    if (!seen.has(output)) enter(output);
    while (path.length > 0) {
      const top = path[path.length - 1]!;
      const operand = top.it.operands[top.next++];
      if (operand === undefined) order.push(path.pop()!.it);
      else if (!seen.has(operand) && isInner(operand)) enter(operand);
    }
  }
  return order;

  function enter(it: HloInstruction): void {
    seen.add(it);
    path.push({ it, next: 0 });
  }
}

function isFreeReshape(plan: Plan, it: HloInstruction, group: Group): boolean {
  if (it.opcode !== 'reshape') return false;
  const x = at(it.operands, 0);
  return !group.members.has(x) || isFreeReshape(plan, x, group);
}

/**
 * Returns the new root of the entry computation, with one fusion instruction for each group. The
 * function creates operands before the instructions that use them.
 */
function rebuilt(root: HloInstruction, plan: Plan): HloInstruction {
  const made = new Map<HloInstruction, HloInstruction>();
  const opened = new Set<HloInstruction>();
  const pending = [root];
  for (let it = pending.at(-1); it !== undefined; it = pending.at(-1)) {
    const group = plan.outputOf.get(it);
    const body = group && bodyOf(plan, group);
    const missing = (body?.operands ?? it.operands).filter((x) => !made.has(x));
    if (made.has(it) || missing.length === 0) {
      pending.pop();
      if (!made.has(it)) finish(it, group, body);
    } else {
      assert(!opened.has(it), `${it.name ?? it.opcode} needs itself: loops joined in a circle`);
      opened.add(it);
      pending.push(...missing);
    }
  }
  return made.get(root)!;

  function finish(it: HloInstruction, group: Group | undefined, body: Body | undefined): void {
    if (group === undefined || body === undefined) {
      made.set(
        it,
        withOperands(
          it,
          it.operands.map((x) => made.get(x)!),
        ),
      );
    } else {
      emitFusion(group, body);
    }
  }

  function emitFusion(group: Group, { body, operands }: Body): void {
    const first = at(group.outputs, 0);
    const kind = [...group.members].some((it) => familyOf(it) === 'reduction') ? 'reduce' : 'loop';
    const loop = fusion(
      kind,
      operands.map((x) => made.get(x)!),
      body,
    );
    const named = { ...loop, name: first.name ?? first.opcode };
    group.outputs.forEach((output, i) => {
      const one = group.outputs.length === 1 ? named : getTupleElement(named, i);
      made.set(output, { ...one, name: output.name ?? named.name });
    });
  }
}
