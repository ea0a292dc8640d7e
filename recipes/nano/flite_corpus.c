/* Speak a list of sentences with flite's statistical voices and keep the exact phone timing.
 *
 *   cc -O2 flite_corpus.c -o flite_corpus -lflite_cmu_us_slt -lflite_cmu_us_rms \
 *      -lflite_cmu_us_awb -lflite_usenglish -lflite_cmulex -lflite -lm
 *   flite_corpus AUDIO.s16 < JOBS.tsv > SEGMENTS.tsv
 *
 * JOBS: voice <tab> duration stretch <tab> mean f0 in Hz <tab> text
 * SEGMENTS, one line per job: voice, rate, first sample, number of samples, text, then one field per phone
 *   name:stress:word-initial:end-in-ms:punctuation-after-word
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <flite/flite.h>

cst_voice *register_cmu_us_slt(const char *);
cst_voice *register_cmu_us_rms(const char *);
cst_voice *register_cmu_us_awb(const char *);

static void print_phones(cst_utterance *u) {
    const cst_item *s, *last_word = NULL;
    for (s = relation_head(utt_relation(u, "Segment")); s; s = item_next(s)) {
        const cst_item *syl = item_parent(item_as(s, "SylStructure"));
        const cst_item *word = syl ? item_parent(syl) : NULL;
        const char *stress = syl ? ffeature_string(syl, "stress") : "0";
        const char *punc = "";
        int initial = 0;
        if (word) {
            initial = last_word == NULL || !item_equal(word, last_word);
            last_word = word;
            /* punctuation belongs to the token, and counts after its last word only */
            const cst_item *in_token = item_as(word, "Token");
            if (in_token && !item_next(in_token))
                punc = ffeature_string(in_token, "parent.punc");
        }
        printf("\t%s:%s:%d:%.1f:%s", item_feat_string(s, "name"), stress, initial,
               1000.0 * item_feat_float(s, "end"), strcmp(punc, "0") ? punc : "");
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: flite_corpus AUDIO.s16 < JOBS > SEGMENTS\n"), 2;
    FILE *audio = fopen(argv[1], "wb");
    if (!audio) return perror(argv[1]), 1;
    flite_init();
    cst_voice *slt = register_cmu_us_slt(NULL), *rms = register_cmu_us_rms(NULL), *awb = register_cmu_us_awb(NULL);
    char line[8192];
    long start = 0;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        char *name = strtok(line, "\t"), *stretch = strtok(NULL, "\t"), *f0 = strtok(NULL, "\t"), *text = strtok(NULL, "\t");
        if (!text) continue;
        cst_voice *v = !strcmp(name, "slt") ? slt : !strcmp(name, "rms") ? rms : awb;
        feat_set_float(v->features, "duration_stretch", atof(stretch));
        feat_set_float(v->features, "int_f0_target_mean", atof(f0));
        cst_utterance *u = flite_synth_text(text, v);
        cst_wave *w = u ? utt_wave(u) : NULL;
        if (!w) continue;
        fwrite(w->samples, 2, w->num_samples, audio);
        printf("%s\t%d\t%ld\t%d\t%s", name, w->sample_rate, start, w->num_samples, text);
        print_phones(u);
        printf("\n");
        start += w->num_samples;
        delete_utterance(u);
    }
    fclose(audio);
    return 0;
}
