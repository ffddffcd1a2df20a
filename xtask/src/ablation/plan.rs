//! What is trained, and the paper's numbers for it.

/// A way to train the small preset.
pub(super) struct Variant {
    /// As `--only` and the folder of its runs have it.
    pub(super) name: &'static str,
    /// What is changed of the preset, for `--set`.
    pub(super) assignments: &'static [&'static str],
}

/// A row of a table.
pub(super) struct Row {
    pub(super) label: &'static str,
    /// The variant that it shows.
    pub(super) variant: &'static str,
    /// The paper's AP, AP50 and AP75 in percent, where it has them.
    pub(super) paper: Option<[f64; 3]>,
}

/// A table of the paper, or the part of it that is repeated.
pub(super) struct Table {
    pub(super) title: &'static str,
    /// Where the paper's numbers stand and what they were measured with.
    pub(super) source: &'static str,
    pub(super) rows: &'static [Row],
}

const fn variant(name: &'static str, assignments: &'static [&'static str]) -> Variant {
    Variant { name, assignments }
}

const fn row(label: &'static str, variant: &'static str, paper: Option<[f64; 3]>) -> Row {
    Row { label, variant, paper }
}

/// Every variant once. The preset's own loss is the focal loss of gamma 2 and alpha .25, over 3 scales x 3 ratios.
pub(super) const VARIANTS: &[Variant] = &[
    variant("gamma_2", &["loss.class={ focal = { gamma = 2.0, alpha = 0.25 } }"]),
    variant("cross_entropy", &["loss.class=cross_entropy"]),
    // sigmoid(0): every class as likely as not.
    variant("no_prior", &["loss.class=cross_entropy", "head.prior_probability=0.5"]),
    variant("alpha_25", &["loss.class={ alpha_balanced = { alpha = 0.25 } }"]),
    variant("alpha_50", &["loss.class={ alpha_balanced = { alpha = 0.5 } }"]),
    variant("alpha_75", &["loss.class={ alpha_balanced = { alpha = 0.75 } }"]),
    variant("alpha_90", &["loss.class={ alpha_balanced = { alpha = 0.9 } }"]),
    variant("alpha_99", &["loss.class={ alpha_balanced = { alpha = 0.99 } }"]),
    variant("gamma_0.5", &["loss.class={ focal = { gamma = 0.5, alpha = 0.5 } }"]),
    variant("gamma_1", &["loss.class={ focal = { gamma = 1.0, alpha = 0.25 } }"]),
    variant("gamma_5", &["loss.class={ focal = { gamma = 5.0, alpha = 0.25 } }"]),
    variant("star_2_1", &["loss.class={ focal_star = { gamma = 2.0, beta = 1.0 } }"]),
    variant("star_4_0", &["loss.class={ focal_star = { gamma = 4.0, beta = 0.0 } }"]),
    variant("ohem", &["loss.class={ ohem = { examples = 128, nms_iou_threshold = 0.5 } }"]),
    variant(
        "ohem_1_3",
        &["loss.class={ ohem = { examples = 128, nms_iou_threshold = 0.5, negatives_per_positive = 3 } }"],
    ),
    variant("sampled_1_3", &["loss.class={ sampled = { examples = 256, positive_fraction = 0.25 } }"]),
    variant("anchors_1x1", &["anchors.octave_scales=[1.0]", "anchors.aspect_ratios=[1.0]"]),
    variant("anchors_2x3", &["anchors.octave_scales=[1.0, 1.4142135623730951]"]),
];

/// Lin et al. 2017, tables 1 and 3, and section 4.1 for the prior: COCO minival, 600 pixels.
pub(super) const TABLES: &[Table] = &[
    Table {
        title: "Cross entropy, with and without the prior",
        source: "section 5.1, and alpha .5 in table 1a, which weighs both sides alike (R50)",
        rows: &[
            row("bias 0 (diverges in the paper)", "no_prior", None),
            row("prior .01", "cross_entropy", Some([30.2, 46.7, 32.8])),
        ],
    },
    Table {
        title: "Balanced cross entropy",
        source: "table 1a (R50)",
        rows: &[
            row("alpha .25", "alpha_25", Some([10.8, 16.0, 11.7])),
            row("alpha .50", "alpha_50", Some([30.2, 46.7, 32.8])),
            row("alpha .75", "alpha_75", Some([31.1, 49.4, 33.0])),
            row("alpha .90", "alpha_90", Some([30.8, 49.7, 32.3])),
            row("alpha .99", "alpha_99", Some([28.7, 47.4, 29.9])),
        ],
    },
    Table {
        title: "Focal loss",
        source: "table 1b (R50)",
        rows: &[
            row("gamma 0, alpha .75", "alpha_75", Some([31.1, 49.4, 33.0])),
            row("gamma .5, alpha .50", "gamma_0.5", Some([32.9, 51.7, 35.2])),
            row("gamma 1, alpha .25", "gamma_1", Some([33.7, 52.0, 36.2])),
            row("gamma 2, alpha .25", "gamma_2", Some([34.0, 52.5, 36.5])),
            row("gamma 5, alpha .25", "gamma_5", Some([32.2, 49.6, 34.8])),
        ],
    },
    Table {
        title: "The other form, FL*",
        source: "table 3 (R50)",
        rows: &[
            row("FL, gamma 2", "gamma_2", Some([34.0, 52.5, 36.5])),
            row("FL*, gamma 2, beta 1", "star_2_1", Some([33.8, 52.7, 36.3])),
            row("FL*, gamma 4, beta 0", "star_4_0", Some([33.9, 51.8, 36.4])),
        ],
    },
    Table {
        title: "Hard examples and samples",
        source: "table 1d (R101); the paper has no row of samples",
        rows: &[
            row("OHEM, 128, NMS .5", "ohem", Some([32.8, 50.3, 35.1])),
            row("OHEM 1:3, 128, NMS .5", "ohem_1_3", Some([31.1, 47.2, 33.2])),
            row("sampled 1:3, 256", "sampled_1_3", None),
            row("FL, gamma 2", "gamma_2", Some([36.0, 54.9, 38.7])),
        ],
    },
    Table {
        title: "Anchors, scales x ratios",
        source: "table 1c (R50)",
        rows: &[
            row("1 x 1", "anchors_1x1", Some([30.3, 49.0, 31.8])),
            row("2 x 3", "anchors_2x3", Some([34.2, 53.1, 36.5])),
            row("3 x 3", "gamma_2", Some([34.0, 52.5, 36.5])),
        ],
    },
];

/// Whose model figure 4 is drawn of, and for which gammas, as in the paper.
pub(super) const FIGURE_VARIANT: &str = "gamma_2";
pub(super) const FIGURE_GAMMAS: [&str; 4] = ["0", "0.5", "1", "2"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn tables_show_every_variant() {
        let shown: BTreeSet<&str> = TABLES.iter().flat_map(|table| table.rows).map(|row| row.variant).collect();
        let known: BTreeSet<&str> = VARIANTS.iter().map(|variant| variant.name).collect();
        assert_eq!(shown, known);
        assert_eq!(known.len(), VARIANTS.len(), "a name twice");
        assert!(known.contains(FIGURE_VARIANT));
    }

    #[test]
    fn one_training_has_one_number_in_the_paper_for_one_backbone() {
        // Those that appear in several tables of R50.
        for table in TABLES.iter().filter(|table| table.source.contains("R50")) {
            for row in table.rows.iter().filter(|row| row.variant == "gamma_2" || row.variant == "alpha_75") {
                let expected = if row.variant == "gamma_2" { [34.0, 52.5, 36.5] } else { [31.1, 49.4, 33.0] };
                assert_eq!(row.paper, Some(expected), "{}", table.title);
            }
        }
    }
}
