// MetaClaw's memory in OpenClaw's memory slot: the model looks for what was said in earlier conversations, and keeps or
// forgets something when it is asked to; its user does the same with /remember, /recall, /forget and /memory-status.
//
// It asks the gateway that the provider "metaclaw" names, with that provider's key and as the agent whose tool or command
// is called, and nobody else. It keeps nothing itself. What a user writes down is the user's word; what a model keeps is
// data to whoever recalls it, for it may come from a page that the model has read. A gateway that does not answer is an
// answer to the model or the user, never the end of a turn.
import { definePluginEntry } from "openclaw/plugin-sdk/plugin-entry";

const PROVIDER = "metaclaw";
const LIMIT_MS = 10_000;
const MAX_RESULTS = 20;
const AGENT = /^[a-z0-9][a-z0-9._-]{0,63}$/;
const TEXT = { type: "string", minLength: 1 };

export default definePluginEntry({
  id: "metaclaw-memory",
  name: "MetaClaw memory",
  description: "What MetaClaw remembers of each agent.",
  register(api) {
    const namesAgent = api.pluginConfig?.nameAgent !== false;

    // The settings are read at each call, since they may change while OpenClaw runs.
    const ask = async (agentId, method, path, body) => {
      const config = api.runtime?.config?.current?.() ?? api.config;
      const provider = config?.models?.providers?.[PROVIDER];
      if (!provider?.baseUrl) return { error: `no provider ${PROVIDER} is configured: metaclaw connect openclaw` };
      const agent = agentId?.toLowerCase();
      const headers = { Authorization: `Bearer ${provider.apiKey}` };
      if (namesAgent && agent && AGENT.test(agent)) headers["X-Agent-Id"] = agent;
      if (body) headers["Content-Type"] = "application/json";
      try {
        const answer = await fetch(`${provider.baseUrl}/memory/${path}`, {
          method,
          headers,
          body: body && JSON.stringify(body),
          signal: AbortSignal.timeout(LIMIT_MS),
        });
        const said = await answer.json();
        return answer.ok ? said : { error: said?.error?.message ?? `status ${answer.status}` };
      } catch (error) {
        return { error: `MetaClaw does not answer (${error.name})` };
      }
    };
    const search = (agentId, query, maxResults) => {
      const limit = Math.min(Math.max(Number(maxResults) || 6, 1), MAX_RESULTS);
      return ask(agentId, "GET", `search?${new URLSearchParams({ q: query, limit: String(limit) })}`);
    };
    const forget = (agentId, id) => ask(agentId, "DELETE", encodeURIComponent(id));

    api.registerMemoryCapability({
      deterministicRecallToolName: "memory_search",
      promptBuilder: ({ availableTools }) =>
        availableTools.has("memory_search")
          ? ["## Memory", "What was said in earlier conversations is found by memory_search. What fits a message is with it already.", ""]
          : [],
    });

    const tools = [
      {
        name: "memory_search",
        label: "Memory search",
        description: "Search what the user said in earlier conversations: facts, preferences, decisions, projects.",
        parameters: object({ query: { ...TEXT, description: "What to look for." }, maxResults: { type: "integer", minimum: 1, maximum: MAX_RESULTS } }, ["query"]),
        call: (agentId, { query, maxResults }) => search(agentId, query, maxResults),
        shown: (said) => ({ results: said.results.map(({ unit, score }) => ({ ...brief(unit), score })) }),
      },
      {
        name: "memory_get",
        label: "Memory get",
        description: "One memory that memory_search found, by its id.",
        parameters: object({ id: TEXT }, ["id"]),
        call: (agentId, { id }) => ask(agentId, "GET", encodeURIComponent(id)),
        shown: brief,
      },
      {
        name: "memory_store",
        label: "Memory store",
        description: "Keep one statement for later conversations, when the user asks for it. What users say of themselves is remembered without this.",
        parameters: object({ text: { ...TEXT, description: "One statement, in words that can be understood alone." } }, ["text"]),
        call: (agentId, { text }) => ask(agentId, "POST", "store", { text, source: "tool" }),
        shown: (said) => said,
      },
      {
        name: "memory_forget",
        label: "Memory forget",
        description: "Forget one memory for good, by the id that memory_search gave, when the user asks for it.",
        parameters: object({ id: TEXT }, ["id"]),
        call: (agentId, { id }) => forget(agentId, id),
        shown: (said) => said,
      },
    ];
    for (const { call, shown, ...tool } of tools) {
      const execute = async (agentId, given) => {
        const said = await call(agentId, given);
        return result(said.error ? said : shown(said));
      };
      api.registerTool((context) => ({ ...tool, execute: (_id, given) => execute(context.agentId, given) }), { names: [tool.name] });
    }

    const commands = [
      {
        name: "remember",
        description: "Have MetaClaw remember a statement: /remember TEXT",
        call: (agentId, text) => ask(agentId, "POST", "store", { text }),
        shown: ({ id, is_stored }) => (is_stored ? `Remembered (${id}).` : "Not remembered: it was forgotten before, or says nothing."),
      },
      {
        name: "recall",
        description: "What MetaClaw remembers: /recall WORDS",
        call: (agentId, words) => search(agentId, words),
        shown: ({ results }) => results.map(({ unit }) => `- ${unit.text} (${unit.id})`).join("\n") || "Nothing fits.",
      },
      {
        name: "forget",
        description: "Have MetaClaw forget a memory for good: /forget ID",
        call: forget,
        shown: ({ forgotten }) => `Forgotten: ${forgotten.join(", ")}.`,
      },
      {
        name: "memory-status",
        description: "How much MetaClaw remembers",
        call: (agentId) => ask(agentId, "GET", "stats"),
        shown: ({ agent, units = 0, forgotten = 0 }) => `${agent}: ${units} memories, ${forgotten} forgotten.`,
        takesNothing: true,
      },
    ];
    for (const { name, description, call, shown, takesNothing } of commands) {
      const handler = async ({ agentId, args }) => {
        const given = args?.trim();
        if (!given && !takesNothing) return { text: description };
        const said = await call(agentId, given);
        return { text: said.error ?? shown(said) };
      };
      api.registerCommand({ name, description, acceptsArgs: !takesNothing, handler });
    }
  },
});

function object(properties, required) {
  return { type: "object", properties, required };
}

function brief(unit) {
  return { id: unit.id, text: unit.text, kind: unit.kind, saidAt: new Date(unit.said_at * 1000).toISOString() };
}

function result(details) {
  return { content: [{ type: "text", text: JSON.stringify(details) }], details };
}
