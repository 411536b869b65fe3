// MetaClaw's memory in OpenClaw's memory slot: the model looks for what was said in earlier conversations.
//
// It asks the gateway that the provider "metaclaw" names, with that provider's key and as the agent whose tool is called,
// and nobody else. It keeps nothing and writes nothing: MetaClaw reads what users say by itself. A gateway that does not
// answer is an answer to the model, never the end of a turn.
import { definePluginEntry } from "openclaw/plugin-sdk/plugin-entry";

const PROVIDER = "metaclaw";
const LIMIT_MS = 10_000;
const MAX_RESULTS = 20;
const AGENT = /^[a-z0-9][a-z0-9._-]{0,63}$/;

export default definePluginEntry({
  id: "metaclaw-memory",
  name: "MetaClaw memory",
  description: "What MetaClaw remembers of each agent.",
  register(api) {
    const namesAgent = api.pluginConfig?.nameAgent !== false;

    // The settings are read at each call, since they may change while OpenClaw runs.
    const ask = async (agentId, path) => {
      const config = api.runtime?.config?.current?.() ?? api.config;
      const provider = config?.models?.providers?.[PROVIDER];
      if (!provider?.baseUrl) return { error: `no provider ${PROVIDER} is configured: metaclaw connect openclaw` };
      const agent = agentId?.toLowerCase();
      const headers = { Authorization: `Bearer ${provider.apiKey}` };
      if (namesAgent && agent && AGENT.test(agent)) headers["X-Agent-Id"] = agent;
      try {
        const answer = await fetch(`${provider.baseUrl}/memory/${path}`, {
          headers,
          signal: AbortSignal.timeout(LIMIT_MS),
        });
        const said = await answer.json();
        return answer.ok ? said : { error: said?.error?.message ?? `status ${answer.status}` };
      } catch (error) {
        return { error: `MetaClaw does not answer (${error.name})` };
      }
    };

    api.registerMemoryCapability({
      deterministicRecallToolName: "memory_search",
      promptBuilder: ({ availableTools }) =>
        availableTools.has("memory_search")
          ? ["## Memory", "What was said in earlier conversations is found by memory_search. What fits a message is with it already.", ""]
          : [],
    });

    api.registerTool(
      (context) => ({
        name: "memory_search",
        label: "Memory search",
        description: "Search what the user said in earlier conversations: facts, preferences, decisions, projects.",
        parameters: {
          type: "object",
          properties: {
            query: { type: "string", description: "What to look for." },
            maxResults: { type: "integer", minimum: 1, maximum: MAX_RESULTS },
          },
          required: ["query"],
        },
        async execute(_id, { query, maxResults }) {
          const limit = Math.min(Math.max(Number(maxResults) || 6, 1), MAX_RESULTS);
          const said = await ask(context.agentId, `search?${new URLSearchParams({ q: query, limit: String(limit) })}`);
          return result(said.error ? said : { results: said.results.map(({ unit, score }) => ({ ...brief(unit), score })) });
        },
      }),
      { names: ["memory_search"] },
    );

    api.registerTool(
      (context) => ({
        name: "memory_get",
        label: "Memory get",
        description: "One memory that memory_search found, by its id.",
        parameters: { type: "object", properties: { id: { type: "string" } }, required: ["id"] },
        async execute(_call, { id }) {
          const said = await ask(context.agentId, encodeURIComponent(id));
          return result(said.error ? said : brief(said));
        },
      }),
      { names: ["memory_get"] },
    );
  },
});

function brief(unit) {
  return { id: unit.id, text: unit.text, kind: unit.kind, saidAt: new Date(unit.said_at * 1000).toISOString() };
}

function result(details) {
  return { content: [{ type: "text", text: JSON.stringify(details) }], details };
}
