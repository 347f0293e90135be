// Runs in Node with @huggingface/transformers: prints the embeddings of every folder, or its error.
import { existsSync, readFileSync, writeSync } from "node:fs";
import { AutoModel, AutoTokenizer, env } from "@huggingface/transformers";

env.allowRemoteModels = false;
const found = {};
for (const [folder, [texts]] of Object.entries(JSON.parse(readFileSync(0, "utf8")))) {
  try {
    const config = JSON.parse(readFileSync(`${folder}/config_sentence_transformers.json`, "utf8"));
    const prompt = config.prompts?.query ?? "";
    const tokenizer = await AutoTokenizer.from_pretrained(folder);
    const model = await AutoModel.from_pretrained(folder, {
      dtype: existsSync(`${folder}/onnx/model_quantized.onnx`) ? "q8" : "fp32",
    });
    const tokens = await tokenizer(texts.map((text) => prompt + text), { padding: true, truncation: true });
    found[folder] = (await model(tokens)).sentence_embedding.tolist();
  } catch (error) {
    found[folder] = String(error);
  }
}
writeSync(1, "\n" + JSON.stringify(found));
