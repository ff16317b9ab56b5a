"""/v1/embeddings through OpenAI's own client, against a fake encoder."""
import json
import math
import unittest

from server import URL, OpenAICase, Server, call, main, need

openai = need("openai")


@unittest.skipIf(URL, "needs its own server")
class Embeddings(OpenAICase):
    options = ("--encoder", "--max-queue", "8")

    def create(self, given, **more):
        return self.client.embeddings.create(model="fake", input=given, **more)

    def test_one(self):
        r = self.create([5, 6, 7], encoding_format="float")
        self.assertEqual((r.object, r.model, r.data[0].object, r.data[0].index), ("list", "fake", "embedding", 0))
        length = math.sqrt(3 * 3 + 6 * 6 + 1)
        for got, want in zip(r.data[0].embedding, [3 / length, 6 / length, 0, -1 / length], strict=True):
            self.assertAlmostEqual(got, want, places=6)
        self.assertEqual((r.usage.prompt_tokens, r.usage.total_tokens), (3, 3))

    def test_shapes(self):
        ids = json.loads(call(self.url + "/tokenize", {"prompt": "the fox"})[2])["tokens"]
        one = self.create(ids).data[0].embedding  # the client asks for base64 and decodes it
        self.assertEqual(self.create("the fox").data[0].embedding, one)
        self.assertEqual([d.embedding for d in self.create([ids, ids]).data], [one, one])
        self.assertEqual([d.embedding for d in self.create(["the fox"] * 3).data], [one] * 3)
        floats = self.create(ids, encoding_format="float").data[0].embedding
        for a, b in zip(floats, one, strict=True):
            self.assertAlmostEqual(a, b, places=7)
        self.assertEqual(self.create(ids, dimensions=4).data[0].embedding, one)

    def test_many_wait_for_a_full_queue(self):
        r = self.create([[i + 1] * (i % 7 + 1) for i in range(300)])
        self.assertEqual([d.index for d in r.data], list(range(300)))
        self.assertEqual(r.data[299].embedding, self.create([300] * (299 % 7 + 1)).data[0].embedding)

    def test_bad_requests(self):
        for fields, param in (({}, "input"), ({"input": []}, "input"), ({"input": [[]]}, "input"),
                              ({"input": 5}, "input"), ({"input": ["a", [1]]}, "input"), ({"input": [10**6]}, "input"),
                              ({"input": "a", "dimensions": 3}, "dimensions"), ({"input": "a", "dimensions": 0}, "dimensions"),
                              ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
                              ({"input": [1] * 5000}, "input")):
            status, _, body = call(self.url + "/v1/embeddings", fields)
            self.assertEqual((status, json.loads(body)["error"]["param"]), (400, param), (fields, body))
        self.assertEqual(call(self.url + "/v1/embeddings", {"input": "a", "model": "other"})[0], 404)

    def test_an_encoder_writes_no_text(self):
        for path, body in (("/v1/completions", {"prompt": "a"}),
                           ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]})):
            status, _, answer = call(self.url + path, body)
            self.assertEqual(status, 400)
            self.assertIn("encoder", json.loads(answer)["error"]["message"])

    def test_a_decoder_gives_no_embeddings(self):
        with Server() as s:
            status, _, answer = call(s.url + "/v1/embeddings", {"input": "a"})
            self.assertEqual(status, 400)
            self.assertIn("no embeddings", json.loads(answer)["error"]["message"])


if __name__ == "__main__":
    main()
