// Tells MetaClaw's gateway who asks: agent, session, run, and whether the turn is the user's or OpenClaw's own.
//
// It wraps the requests to the provider "metaclaw" and no others: OpenClaw calls these hooks for that provider alone, so
// nothing about a session reaches anybody else. It keeps no state but what is known of running sessions, changes no body,
// opens no connection, and leaves out a header rather than send a value that the gateway would refuse.
import { definePluginEntry } from "openclaw/plugin-sdk/plugin-entry";

const PROVIDER = "metaclaw";
const MAX_SESSIONS = 1000;
const USERS_TRIGGERS = new Set(["user", "manual"]);
const USERS_PROVENANCE = new Set([undefined, null, "external_user"]);
const OWN_SESSION = /:(?:subagent|cron|hook|heartbeat|skill-workshop)(?::|$)/;
const AGENT = /^[a-z0-9][a-z0-9._-]{0,63}$/;
const VISIBLE = /^[\x21-\x7e]{1,200}$/;

export default definePluginEntry({
  id: "metaclaw",
  name: "MetaClaw",
  description: "Tells MetaClaw's gateway which agent, session and run a request belongs to.",
  register(api) {
    const namesAgent = api.pluginConfig?.nameAgent !== false;
    const runs = new Map(); // session id -> what OpenClaw said when its latest run began

    const noteRun = (_event, context) => {
      if (!context?.sessionId) return;
      runs.delete(context.sessionId); // so that the newest is last
      runs.set(context.sessionId, {
        agent: context.agentId,
        key: context.sessionKey,
        run: context.runId,
        trigger: context.trigger,
        provenance: context.inputProvenance?.kind,
      });
      if (runs.size > MAX_SESSIONS) runs.delete(runs.keys().next().value);
    };
    // Both, because a run that names its model goes through the second only.
    api.on("before_model_resolve", noteRun);
    api.on("before_prompt_build", noteRun);

    const identity = (agentOfCall, session, isTurn) => {
      const run = session ? runs.get(session) : undefined;
      const agent = (agentOfCall ?? run?.agent)?.toLowerCase();
      const said = {
        "X-Agent-Id": namesAgent && agent && AGENT.test(agent) ? agent : undefined,
        "X-Session-Id": visible(session),
        "X-Session-Key": visible(run?.key),
        "X-Run-Id": visible(run?.run),
        "X-Turn-Type": isTurn && session ? (run ? kindOf(run) : undefined) : "side",
      };
      return Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined));
    };

    const withIdentity = (context, isTurn) =>
      context.streamFn &&
      ((model, request, options) =>
        context.streamFn(model, request, {
          ...options,
          headers: { ...options?.headers, ...identity(context.agentId, options?.sessionId, isTurn) },
        }));

    api.registerProvider({
      id: PROVIDER,
      label: "MetaClaw",
      auth: [],
      wrapStreamFn: (context) => withIdentity(context, true),
      wrapSimpleCompletionStreamFn: (context) => withIdentity(context, false),
      // A compaction has its session here only.
      resolveTransportTurnState: (context) => {
        const session = visible(context.sessionId);
        return { headers: session ? { "X-Session-Id": session } : {} };
      },
    });
  },
});

// A turn is the user's when the user began it in a session of theirs; all else is OpenClaw's own bookkeeping.
function kindOf(run) {
  const isUsers = !run.trigger || USERS_TRIGGERS.has(run.trigger);
  return isUsers && USERS_PROVENANCE.has(run.provenance) && !OWN_SESSION.test(run.key ?? "") ? "main" : "side";
}

function visible(value) {
  return typeof value === "string" && VISIBLE.test(value) ? value : undefined;
}
