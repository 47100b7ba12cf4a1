/** Payloads and arguments: what is kept whole, and what is refused (R22, R25). */
import { describe, expect } from "vitest";
import { newRunId } from "../../identity.ts";
import { aRun, aStep, MANIFEST, refusalOf } from "../harness.ts";
import type { Suite } from "./suite.ts";

export function describePayloadsAndInput(suite: Suite): void {
  const { it, itWith, claimed } = suite;

  describe("payloads", () => {
    it("refuses what JSON cannot carry with its path, and loses nothing (R25)", async () => {
      const { runId, fence } = await claimed();
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      const cycle: Record<string, unknown> = {};
      cycle["self"] = cycle;
      const values = { cycle, big: 1n, nan: [Number.NaN], fn: () => 1, map: new Map() };
      for (const [name, value] of Object.entries(values)) {
        const call = () =>
          suite.store.completeStep({ runId, stepIndex: 0, fence, result: { [name]: value } });
        const error = await call().catch((thrown: unknown) => thrown);
        expect(error).toMatchObject({ code: "payload_not_json", name: "DurablePayloadError" });
        expect((error as Error).message).toContain(`result.${name}`);
        expect(
          await refusalOf(() => suite.store.emitEvent({ runId, key: name, payload: { [name]: value } })),
        ).toBe("payload_not_json");
        expect(await suite.store.loadEvent(runId, name)).toBeUndefined();
      }
      const bad = { ...aRun(), manifest: { ...MANIFEST, input: { f: () => 1 } } };
      expect(await refusalOf(() => suite.store.startOrResume(bad))).toBe("payload_not_json");
      expect(await suite.store.loadRun?.(bad.runId)).toBeUndefined();
      expect(await suite.store.loadStep(runId, 0)).toMatchObject({ status: "running", attempts: 1 });
      expect(
        await refusalOf(() => suite.store.completeStep({ runId, stepIndex: 0, fence, result: "fine" })),
      ).toBe("accepted");
    });

    itWith(
      ["loadRun"],
      "keeps large texts of many-byte characters whole, as result, event, input and outcome (R22)",
      async () => {
        const text = `${"é🙂x".repeat(400_000)}end`;
        const input = { ...aRun(), manifest: { ...MANIFEST, input: { text } } };
        const { fence = 0 } = await suite.store.startOrResume(input);
        const { runId } = input;
        await suite.store.beginStep(aStep(runId, 0, { fence }));
        const done = await suite.store.completeStep({ runId, stepIndex: 0, fence, result: { text } });
        expect((done.result as { text: string }).text === text).toBe(true);
        await suite.store.emitEvent({ runId, key: "big", payload: text });
        const event = await suite.store.loadEvent(runId, "big");
        expect(event?.payload === text).toBe(true);
        const { completedSteps } = await suite.store.startOrResume(input);
        expect((completedSteps[0]?.result as { text: string } | undefined)?.text === text).toBe(true);
        await suite.store.endRun({ runId, workerId: "worker-1", status: "completed", result: text });
        expect((await suite.store.loadRun?.(runId))?.result === text).toBe(true);
      },
    );

    itWith(
      ["loadRun"],
      "keeps a run whose every text is as large as its row takes, and doubles when it is quoted",
      async () => {
        // 120,000 quotes are 240,002 bytes of JSON, and would be 480,004 as JSON within JSON.
        const text = '"'.repeat(120_000);
        const tags = Object.fromEntries(
          Array.from({ length: 64 }, (_, i) => [`tag-${i}`, '"'.repeat(1_024)]),
        );
        const task = { ...MANIFEST.task, metadata: { text } };
        const input = { ...aRun(), manifest: { ...MANIFEST, task, input: { text }, tags } };
        const { fence = 0 } = await suite.store.startOrResume(input);
        const { runId, workerId } = input;
        await suite.store.beginStep(aStep(runId, 0, { fence }));
        await suite.store.completeStep({ runId, stepIndex: 0, fence, result: text });
        const outcome = { notes: text };
        await suite.store.endRun({ runId, workerId, fence, status: "completed", outcome, result: text });
        expect(await suite.store.loadRun?.(runId)).toMatchObject({
          status: "completed",
          outcome,
          result: text,
        });
        const large = {
          ...aRun(),
          manifest: { ...MANIFEST, task: { ...task, metadata: { text: text + text } } },
        };
        expect(await refusalOf(() => suite.store.startOrResume(large))).toBe("payload_too_large");
      },
    );

    it("keeps a result of 16 MiB, and refuses one of 17 MiB with both sizes", async () => {
      const { runId, fence } = await claimed();
      await suite.store.beginStep(aStep(runId, 0, { fence }));
      const tooLarge = { runId, stepIndex: 0, fence, result: "x".repeat(17 * 1_024 * 1_024) };
      const error = await suite.store.completeStep(tooLarge).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: "payload_too_large" });
      expect((error as Error).message).toMatch(/17825794.*16777216/);
      const result = "y".repeat(16 * 1_024 * 1_024 - 2);
      await suite.store.completeStep({ runId, stepIndex: 0, fence, result });
      expect((await suite.store.loadStep(runId, 0))?.result === result).toBe(true);
    });
  });

  describe("bad input", () => {
    const refused = async (call: () => Promise<unknown>): Promise<string> => {
      const error = await call().catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: "invalid_input", name: "DurableInvalidInputError" });
      return `${(error as { field: string }).field}: ${(error as Error).message}`;
    };

    it("refuses run ids that are empty, over 1,024 bytes, or have control characters, by one rule", async () => {
      for (const runId of ["", "x".repeat(1_100), "a\u0000b", "a\nb", "\ud800"]) {
        expect(await refused(() => suite.store.startOrResume({ ...aRun(), runId }))).toMatch(/^runId: /);
        expect(await refused(() => suite.store.loadStep(runId, 0))).toMatch(/^runId: /);
        expect(await refused(() => suite.store.emitEvent({ runId, key: "k", payload: 1 }))).toMatch(
          /^runId: /,
        );
      }
    });

    itWith(["loadRun"], "takes any other run id as it is, paths and emoji included", async () => {
      const unique = newRunId();
      for (const runId of [
        `../../${unique}`,
        `🙂 ${unique}`,
        `${unique}${"é".repeat(499)}`,
        `CON.${unique}`,
      ]) {
        const { fence = 0 } = await suite.store.startOrResume({ ...aRun(), runId });
        await suite.store.beginStep(aStep(runId, 0, { fence }));
        await suite.store.completeStep({ runId, stepIndex: 0, fence, result: runId });
        expect((await suite.store.loadStep(runId, 0))?.result).toBe(runId);
        expect((await suite.store.loadRun?.(runId))?.runId).toBe(runId);
      }
    });

    it("names the field and the limit for leases, positions, intents, keys and manifests", async () => {
      const { runId, fence } = await claimed();
      for (const leaseMs of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 0.5]) {
        expect(await refused(() => suite.store.startOrResume({ ...aRun(), leaseMs }))).toMatch(
          /^leaseMs: .*1 to 86400000/,
        );
        expect(await refused(() => suite.store.renewLease({ runId, workerId: "worker-1", leaseMs }))).toMatch(
          /^leaseMs/,
        );
      }
      for (const stepIndex of [-1, 0.5, Number.NaN, 100_000]) {
        expect(await refused(() => suite.store.beginStep(aStep(runId, stepIndex)))).toMatch(
          /^stepIndex: .*0 to 99999/,
        );
      }
      for (const timeoutMs of [-1, 0.5, Number.NaN, 1e15]) {
        expect(await refused(() => suite.store.beginStep(aStep(runId, 0, { timeoutMs })))).toMatch(
          /^timeoutMs: /,
        );
      }
      expect(await refused(() => suite.store.beginStep(aStep(runId, 0, { fence, intent: "" })))).toMatch(
        /^intent: .*1024/,
      );
      expect(
        await refused(() => suite.store.emitEvent({ runId, key: "k".repeat(2_048), payload: 1 })),
      ).toMatch(/^key: .*2048 bytes.*1024/);
      expect(await refused(() => suite.store.startOrResume({ ...aRun(), workerId: "" }))).toMatch(
        /^workerId/,
      );
      const noTask = { ...MANIFEST, task: undefined } as unknown as typeof MANIFEST;
      expect(await refused(() => suite.store.startOrResume({ ...aRun(), manifest: noTask }))).toMatch(
        /^manifest\.task/,
      );
      const noId = { ...MANIFEST, task: { id: "", intent: "" } };
      expect(await refused(() => suite.store.startOrResume({ ...aRun(), manifest: noId }))).toMatch(
        /^manifest\.task\.id/,
      );
      expect(await suite.store.loadStep(runId, 0)).toBeUndefined();
    });
  });
}
