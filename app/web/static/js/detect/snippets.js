/** Calls to copy, with the choices made on the page. */

const KEY = "LOOKOUT_API_KEY";

/**
 * @param {string} name of the picture's file
 * @param {{threshold: number, labels: string[]}} settings
 * @returns {Record<string, string>}
 */
export function detectionSnippets(name, { threshold, labels }) {
  const query = new URLSearchParams([
    ["threshold", String(threshold)],
    ...labels.map((label) => ["labels", label]),
  ]).toString();
  const url = `${location.origin}/object-detection?${query}`;
  const file = name.replaceAll('"', "");
  return {
    curl: `curl -H "X-API-Key: $${KEY}" \\\n  -F "image=@${file}" \\\n  "${url}"`,
    Python: `import os\n\nimport httpx\n\nwith open("${file}", "rb") as image:\n    answer = httpx.post(\n        "${url}",\n        headers={"X-API-Key": os.environ["${KEY}"]},\n        files={"image": image},\n    )\nanswer.raise_for_status()\nfor found in answer.json()["objects"]:\n    print(found["label"], found["score"], found["box"])`,
    JavaScript: `const form = new FormData();\nform.append("image", file); // a File or Blob\nconst answer = await fetch("${url}", {\n  method: "POST",\n  headers: { "X-API-Key": apiKey },\n  body: form,\n});\nif (!answer.ok) throw new Error((await answer.json()).detail);\nfor (const { label, score, box } of (await answer.json()).objects) console.log(label, score, box);`,
  };
}

/** @param {string} text */
export function textSnippets(text) {
  const url = `${location.origin}/prediction`;
  const json = JSON.stringify({ text });
  return {
    curl: `curl -H "X-API-Key: $${KEY}" \\\n  -H "Content-Type: application/json" \\\n  -d '${json.replaceAll("'", "'\\''")}' \\\n  ${url}`,
    Python: `import os\n\nimport httpx\n\nanswer = httpx.post(\n    "${url}",\n    headers={"X-API-Key": os.environ["${KEY}"]},\n    json=${json},\n)\nanswer.raise_for_status()\nprint(answer.json()["category"])`,
    JavaScript: `const answer = await fetch("${url}", {\n  method: "POST",\n  headers: { "X-API-Key": apiKey, "Content-Type": "application/json" },\n  body: JSON.stringify(${json}),\n});\nif (!answer.ok) throw new Error((await answer.json()).detail);\nconsole.log((await answer.json()).category);`,
  };
}

/** The stream, in Python. */
export function streamSnippet() {
  const url = `${location.origin.replace(/^http/, "ws")}/object-detection`;
  return `import asyncio\nimport json\nimport os\n\nfrom websockets.asyncio.client import connect\n\n\nasync def main() -> None:\n    headers = {"X-API-Key": os.environ["${KEY}"]}\n    async with connect("${url}", additional_headers=headers) as stream:\n        await stream.send(json.dumps({"threshold": 0.5}))\n        with open("frame.jpg", "rb") as frame:\n            await stream.send(frame.read())\n        print(json.loads(await stream.recv())["objects"])\n\n\nasyncio.run(main())`;
}
